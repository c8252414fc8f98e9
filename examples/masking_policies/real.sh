#!/usr/bin/env bash
# Masking policies on real text: bash real.sh DATA, in an empty folder. DATA holds wiki_en and wiki_simple (train.txt.gz,
# valid.txt), squad_v1 (train_part.jsonl.gz), nq_open and triviaqa (train_dprdev, dev and dev_dprtest.jsonl), commonsenseqa,
# openbookqa, arc_easy, arc_challenge and opentriviaqa (train, dev or test.jsonl); each jsonl, or its gzip file.
# The same command again goes on where it stopped.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
source "$here/../environment.sh" ""
python "$here/texts.py" "${1:?the folder of the data}" text

echo; echo "== 1. prepare"
[ -e wiki-bin/dataset.json ] || taskmask-preprocess --train text/wiki.txt --valid text/wiki-valid.txt --documents blank --vocab-size 8000 --out wiki-bin
[ -e corpus-bin/dataset.json ] || taskmask-preprocess --train text/corpus.txt --documents line --vocab wiki-bin --out corpus-bin
[ -e spans-bin/dataset.json ] || taskmask-preprocess --train text/squad-train.jsonl --valid text/squad-valid.jsonl --vocab wiki-bin --out spans-bin
[ -e episodes-bin/dataset.json ] || taskmask-preprocess --train text/squad-train.jsonl --text context question --list answers --vocab wiki-bin --out episodes-bin
for set in closed squadcb title; do
  [ -e $set-bin/dataset.json ] || taskmask-preprocess --train text/$set-train.jsonl --valid text/$set-valid.jsonl \
    --test text/$set-test.jsonl --text question --list answers --vocab wiki-bin --out $set-bin
done
[ -e choose-bin/dataset.json ] || taskmask-preprocess --train text/choose-train.jsonl --valid text/choose-valid.jsonl \
  --test text/choose-test.jsonl --text question --list answers choices --vocab wiki-bin --out choose-bin

echo; echo "== 2. general pre-training, with BART's masks"
taskmask-train --data wiki-bin --run runs/general-ed --task denoising --model bart_tiny --model.width 128 --model.heads 4 --model.norm pre \
  --model.dropout 0 --model.attention_dropout 0 --data.length 128 --optim.lr 2e-3 --train.steps 1000 --train.max_tokens 2048

echo; echo "== 3. the policies: a heuristic, a model that learns which spans are asked for, and a meta-learned one"
taskmask spans --data corpus-bin --column salient --heuristic --overwrite
taskmask-train --data spans-bin --run runs/asked --task span --task.question "" --task.max_words 10 --model bilstm --model.width 128 \
  --data.length 256 --optim.lr 2e-3 --train.steps 300 --train.max_tokens 2048
taskmask annotate --data corpus-bin --from runs/asked --column asked=spans chance=chance --overwrite
taskmask-train --config runs/general-ed/settings.json --data episodes-bin --run runs/meta --train.init_from runs/general-ed \
  --task meta_masking --task.question question --train.steps 150 --train.max_tokens 1024
taskmask annotate --data corpus-bin --from runs/meta --column policy=policy --overwrite

echo; echo "== 4. go on from the general model with each policy, learn four tasks, report"
taskmask compare "$here/real.toml" --run runs/real
