#!/usr/bin/env bash
# Fully-explored masking on real text: bash real.sh DATA variance scratch ag_news imdb  (the tables that are wanted), in an
# empty folder, or in that of selective_masking/real.sh. DATA holds wiki_en, wiki_simple (train.txt.gz, valid.txt), ag_news
# (train.tsv, dev.tsv, test.tsv.gz), and for imdb also imdb (unsup.txt.gz) and sst2 (train, dev and test.tsv).
# The same command again goes on where it stopped.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
source "$here/../environment.sh" "[report]"
data=${1:?the folder of the data}
mkdir -p text
shape=(--model tiny --model.width 96 --model.heads 3 --model.norm pre --model.positions rotary --model.dropout 0
  --model.attention_dropout 0 --data part-bin --data.length 64 --train.max_tokens 1792)

prepare() { # NAME OPTION ...: once
  [ -e $1/dataset.json ] || taskmask-preprocess "${@:2}" --out $1
}
labelled() { # NAME TABLES VOCABULARY
  prepare $1 --train $data/$2/train.tsv --valid $data/$2/dev.tsv --test "$(ls $data/$2/test.tsv*)" --vocab $3
}
part() { # the first 85 articles of Wikipedia
  zcat $data/wiki_en/train.txt.gz | awk -v RS= -v ORS='\n\n' 'NR <= 85' > text/part.txt
  prepare part-bin --train text/part.txt --valid $data/wiki_en/valid.txt --documents blank --vocab-size 2000
}

for table in "${@:2}"; do
  echo; echo "== $table"
  case $table in
    variance)
      part
      taskmask-train "${shape[@]}" --run runs/first-step --optim.lr 1e-4 --train.steps 1
      taskmask-train "${shape[@]}" --run runs/uniform --train.init_from runs/first-step --optim.lr 3e-3 --train.steps 860 \
        --train.valid_every 0 --masker.ratio 0.1428571 --run.save_every 160 --run.keep_last 9
      taskmask variance --from runs/first-step --from runs/uniform/checkpoints/step-160.pt --from runs/uniform \
        --masker "uniform ratio=0.1428571" --masker "whole_word ratio=0.1428571" --masker "span ratio=0.1428571" \
        --masker "fully_explored masks=7" --masker "fully_explored masks=7 partition=contiguous" --rows 24 --draws 3
      ;;
    scratch)
      part
      labelled ag-part-bin ag_news part-bin
      taskmask compare "$here/scratch.toml" --run runs/scratch
      ;;
    ag_news | imdb)
      source "$here/../reviews.sh"
      labelled ag-bin ag_news runs/wiki
      labelled sst2-bin sst2 runs/wiki
      taskmask compare "$here/$table.toml" --run runs/explored-$table
      ;;
  esac
done
