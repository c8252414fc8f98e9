#!/usr/bin/env bash
# Fully-explored masking on real text: bash real.sh DATA variance scratch ag_news imdb  (the tables that are wanted), in an
# empty folder, or in that of selective_masking/real.sh. DATA holds wiki_en, wiki_simple (train.txt.gz, valid.txt), ag_news
# (train.tsv, dev.tsv, test.tsv.gz), and for imdb also imdb (unsup.txt.gz) and sst2 (train, dev and test.tsv).
# The same command again goes on where it stopped.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
source "$here/../environment.sh" ""
data=${1:?the folder of the data}
mkdir -p text

part() { # the first 85 articles of Wikipedia
  zcat $data/wiki_en/train.txt.gz | awk -v RS= -v ORS='\n\n' 'NR <= 85' > text/part.txt
  [ -e part-bin/dataset.json ] || taskmask-preprocess --train text/part.txt --valid $data/wiki_en/valid.txt --documents blank \
    --vocab-size 2000 --out part-bin
}
ag_news() { # DATASET VOCABULARY
  bin=$1 vocab=$2
  [ -e $bin/dataset.json ] || taskmask-preprocess --train $data/ag_news/train.tsv --valid $data/ag_news/dev.tsv \
    --test $data/ag_news/test.tsv.gz --vocab $vocab --out $bin
}

for table in "${@:2}"; do
  echo; echo "== $table"
  case $table in
    variance)
      part
      taskmask-train --model tiny --model.width 96 --model.heads 3 --model.norm pre --model.positions rotary \
        --model.dropout 0 --model.attention_dropout 0 --data part-bin --data.length 64 --train.max_tokens 1792 \
        --run runs/first-step --optim.lr 1e-4 --train.steps 1
      taskmask-train --model tiny --model.width 96 --model.heads 3 --model.norm pre --model.positions rotary \
        --model.dropout 0 --model.attention_dropout 0 --data part-bin --data.length 64 --train.max_tokens 1792 \
        --run runs/uniform --train.init_from runs/first-step --optim.lr 3e-3 \
        --train.steps 860 --train.valid_every 0 --masker.ratio 0.1428571 --run.save_every 160 --run.keep_last 9
      taskmask variance --from runs/first-step --from runs/uniform/checkpoints/step-160.pt --from runs/uniform \
        --masker "uniform ratio=0.1428571" --masker "whole_word ratio=0.1428571" --masker "span ratio=0.1428571" \
        --masker "fully_explored masks=7" --masker "fully_explored masks=7 partition=contiguous" --rows 24 --draws 3
      ;;
    scratch)
      part
      ag_news ag-part-bin part-bin
      taskmask compare "$here/scratch.toml" --run runs/scratch
      ;;
    ag_news | imdb)
      source "$here/../reviews.sh"
      ag_news ag-bin runs/wiki
      [ -e sst2-bin/dataset.json ] || taskmask-preprocess --train $data/sst2/train.tsv --valid $data/sst2/dev.tsv \
        --test $data/sst2/test.tsv --vocab runs/wiki --out sst2-bin
      taskmask compare "$here/$table.toml" --run runs/explored-$table
      ;;
  esac
done
