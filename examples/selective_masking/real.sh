#!/usr/bin/env bash
# Selective masking on reviews: bash real.sh DATA mr sst2 imdb yelp  (the tasks that are wanted), in an empty folder.
# DATA holds wiki_en, wiki_simple (train.txt.gz, valid.txt), imdb (unsup.txt.gz, train and test.tsv.gz), mr, sst2 (train,
# dev and test.tsv) and yelp_polarity (dev and test.tsv.gz, unlabeled.txt.gz); tables of a label and a text, with a header.
# An hour to two a task, on one slow CPU core. The same command again goes on where it stopped.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
source "$here/../environment.sh" ""
data=${1:?the folder of the data}
source "$here/../reviews.sh"

cut_rows() { small | awk -v from="$1" -v to="$2" 'NR == 1 || (NR > from && NR <= to + 1)'; }    # of a table with a header

for task in "${@:2}"; do
  train=$data/$task/train.tsv dev=$data/$task/dev.tsv test=$data/$task/test.tsv text=imdb-text-bin
  length=64 epochs=3 tagger_epochs=2
  case $task in
    imdb) # few reviews
      length=128 epochs=10 tagger_epochs=10 train=text/few.tsv dev=text/few-dev.tsv test=text/few-test.tsv
      zcat "$data"/imdb/train.tsv.gz | cut_rows 1 256 > $train
      zcat "$data"/imdb/train.tsv.gz | cut_rows 257 512 > $dev
      zcat "$data"/imdb/test.tsv.gz | cut_rows 1 1000 > $test
      ;;
    yelp) # with a text of its own
      length=128 epochs=5 tagger_epochs=3 train=text/yelp.tsv dev=text/yelp-dev.tsv test=text/yelp-test.tsv text=yelp-text-bin
      zcat "$data"/yelp_polarity/dev.tsv.gz | cut_rows 1 2000 > $train
      zcat "$data"/yelp_polarity/dev.tsv.gz | cut_rows 2001 2500 > $dev
      zcat "$data"/yelp_polarity/test.tsv.gz | cut_rows 1 1500 > $test
      zcat "$data"/yelp_polarity/unlabeled.txt.gz | sentences > text/yelp.txt
      head -n -500 text/yelp.txt > text/yelp-train.txt
      tail -n 500 text/yelp.txt > text/yelp-valid.txt
      [ -e $text/dataset.json ] || taskmask-preprocess --train text/yelp-train.txt --valid text/yelp-valid.txt --documents line --vocab runs/wiki --out $text
      ;;
  esac

  echo; echo "== $task: the classifier"
  [ -e $task-bin/dataset.json ] || taskmask-preprocess --train "$train" --valid "$dev" --test "$test" --vocab runs/wiki --out $task-bin
  taskmask-train --data $task-bin --data.length $length --run runs/$task --task classification --train.init_from runs/wiki \
    --train.epochs $epochs --train.max_tokens 1024 --optim.lr 5e-4

  echo; echo "== $task: which words matter to it, and a tagger that finds such words"
  grep -q '"important"' $task-bin/dataset.json || taskmask annotate --data $task-bin --from runs/$task --task word_importance \
    --split train valid --column important importance=score
  taskmask-train --data $task-bin --data.length 64 --run runs/$task-words --task tagging --task.label important --task.pieces all \
    --train.init_from runs/wiki --train.epochs $tagger_epochs --train.max_tokens 1024 --train.metric f1_important \
    --criterion.class_weights important=3 --optim.lr 5e-4
  grep -q "\"score_$task\"" $text/dataset.json || taskmask annotate --data $text --from runs/$task-words \
    --column score_$task=probability:important

  echo; echo "== $task: go on with each policy, fine-tune, report"
  taskmask compare "$here/$task.toml" --run runs/selective-$task
done
