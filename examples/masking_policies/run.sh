#!/usr/bin/env bash
# Masking policies in intermediate pre-training (Ye et al. 2021), whole, a line a stage, on a made-up world of facts: who
# was born where is asked without a text, so that the model must know it. No file is needed.
# The same command again goes on where it stopped.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
source "$here/../environment.sh" ""
cd "$root"
out=runs/masking_policies

echo; echo "== 1. prepare: facts, questions, and those asked in training with the facts they are about"
python "$here/world.py" $out/text
[ -e $out/facts/dataset.json ] || taskmask-preprocess --train $out/text/corpus.txt --documents line --vocab-kind bpe --vocab-size 420 --out $out/facts
[ -e $out/questions/dataset.json ] || taskmask-preprocess --train $out/text/questions-train.jsonl --valid $out/text/questions-valid.jsonl --test $out/text/questions-test.jsonl --text question --list answers --vocab $out/facts --out $out/questions
[ -e $out/spans/dataset.json ] || taskmask-preprocess --train $out/text/contexts.jsonl --vocab $out/facts --out $out/spans
[ -e $out/episodes/dataset.json ] || taskmask-preprocess --train $out/text/contexts.jsonl --text context question --list answers --vocab $out/facts --out $out/episodes

echo; echo "== 2. general pre-training, with BART's masks"
taskmask-train --config "$here/settings.toml" --data $out/facts --run $out/general --task denoising --train.steps 200

echo; echo "== 3. a heuristic policy: names, numbers and dates"
taskmask spans --data $out/facts --column salient --heuristic --overwrite

echo; echo "== 4. a supervised policy: a model that learns which spans are asked for, and marks the five likeliest"
taskmask-train --data $out/spans --run $out/asked --task span --task.question "" --task.max_words 10 --model bilstm --model.width 96 --data.length 64 --optim.lr 2e-3 --train.steps 150 --train.max_tokens 1024 --run.threads 1 --run.tensorboard false
taskmask annotate --data $out/facts --from $out/asked --column asked=spans chance=chance --overwrite

echo; echo "== 5. a meta-learned policy: what to mask so that a step of pre-training helps to answer"
taskmask-train --config "$here/settings.toml" --data $out/episodes --run $out/meta --train.init_from $out/general --task meta_masking --task.question question --criterion.task_weight 0.1 --criterion.inner_lr 0.03 --train.steps 150
taskmask annotate --data $out/facts --from $out/meta --column policy=policy --overwrite

echo; echo "== 6. go on from the general model with each policy, learn to answer, report"
taskmask compare "$here/experiment.toml" --run $out/compare

cat <<END
== done
  the report     $root/$out/compare/report.html
  what is masked $root/.venv/bin/taskmask inspect --data $out/facts --masker "listed column=salient" --masker "listed column=asked probability=chance choose=best" --masker "scored column=policy"
END
