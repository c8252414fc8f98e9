#!/usr/bin/env bash
# Predictions for pre-training: bash real.sh DATA imdb tnews eprstmt  (the sets that are wanted), in an empty folder.
# DATA holds tnews and eprstmt (train_few_all, dev_few_all and test_public.tsv, unlabeled.txt.gz), and for imdb wiki_en,
# wiki_simple (train.txt.gz, valid.txt), imdb (unsup.txt.gz) and sst2 (train, dev and test.tsv).
# Half an hour to an hour a set, on one slow CPU core. The same command again goes on where it stopped.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
source "$here/../environment.sh" ""
data=${1:?the folder of the data}
mkdir -p text

encoder_of_titles() { # of the texts without labels; the last 500 of each set are held out
  for name in tnews eprstmt; do
    zcat "$data"/$name/unlabeled.txt.gz > text/$name-all.txt
    head -n -500 text/$name-all.txt > text/$name.txt
    tail -n 500 text/$name-all.txt > text/$name-valid.txt
  done
  [ -e zh-bin/dataset.json ] || taskmask-preprocess --train text/tnews.txt text/eprstmt.txt \
    --valid text/tnews-valid.txt text/eprstmt-valid.txt --documents line --vocab-size 6000 --out zh-bin
  taskmask-train --data zh-bin --data.length 64 --run runs/zh --model tiny --model.width 192 --model.heads 3 --model.norm pre \
    --model.positions rotary --model.pool mean --model.dropout 0 --model.attention_dropout 0 --optim.lr 2e-3 --train.max_tokens 2048 --train.steps 800
}

for set in "${@:2}"; do
  train=$data/$set/train_few_all.tsv dev=$data/$set/dev_few_all.tsv test=$data/$set/test_public.tsv encoder=runs/zh epochs=10 bin=$set-bin
  confident=0.9
  [ $set = tnews ] && confident=0    # so few labels and 15 classes make no teacher sure: the surest labels of each class
  case $set in
    imdb) # its text without labels, and 1,000 sentences of SST-2 with labels
      source "$here/../reviews.sh"
      train=text/sst2.tsv dev=$data/sst2/dev.tsv test=$data/sst2/test.tsv encoder=runs/wiki epochs=6 bin=few-bin
      head -n 1001 "$data"/sst2/train.tsv > $train
      ;;
    *)
      encoder_of_titles
      [ -e $set-text-bin/dataset.json ] || taskmask-preprocess --train text/$set.txt --valid text/$set-valid.txt --documents line --vocab runs/zh --out $set-text-bin
      ;;
  esac

  echo; echo "== $set: the teacher, and its labels of the text that has none"
  [ -e $bin/dataset.json ] || taskmask-preprocess --train "$train" --valid "$dev" --test "$test" --vocab $encoder --out $bin
  taskmask-train --data $bin --data.length 64 --run runs/$set-teacher --task classification --train.init_from $encoder \
    --train.epochs $epochs --train.max_tokens 1024 --optim.lr 5e-4
  taskmask evaluate --from runs/$set-teacher --split test
  grep -q '"pseudo"' $set-text-bin/dataset.json || taskmask annotate --data $set-text-bin --from runs/$set-teacher \
    --column pseudo=label sure=confidence logits=logits

  echo; echo "== $set: classic self-training: the sure ones mixed into the labels of people, without a stage, five seeds"
  [ -e text/$set-sure.tsv ] || taskmask annotate --data $set-text-bin --from runs/$set-teacher \
    --column label=label label_sure=confidence --confident $confident --balance --to-tsv text/$set-sure.tsv --overwrite
  [ -e $set-mixed-bin/dataset.json ] || taskmask-preprocess --train "$train" text/$set-sure.tsv --valid "$dev" --test "$test" --vocab $encoder --out $set-mixed-bin
  taskmask-train --data $set-mixed-bin --data.length 64 --run runs/$set-self-training --task classification --train.init_from $encoder \
    --train.steps 70 --train.valid_every 35 --train.max_tokens 1024 --optim.lr 5e-4 --train.seed 1 2 3 4 5
  taskmask evaluate --from runs/$set-self-training --split test

  echo; echo "== $set: go on with each variant, fine-tune, report"
  taskmask compare "$here/$set.toml" --run runs/pseudo-$set
done
