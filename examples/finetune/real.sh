#!/usr/bin/env bash
# What pre-training brings on public sets: bash real.sh DATA ag_news laptop restaurant mr sst2 clinc150 eprstmt tnews
# (the sets that are wanted), in an empty folder. DATA holds ag_news, semeval14, mr, sst2, clinc150, eprstmt, tnews, wiki_en.
# The same command again goes on where it stopped.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
source "$here/../environment.sh" "[examples]"
data=${1:?the folder of the data}
mkdir -p text

english() {
  [ -e wiki-bin/dataset.json ] || taskmask-preprocess --train $data/wiki_en/train.txt.gz --valid $data/wiki_en/valid.txt --vocab-size 16000 --out wiki-bin
  taskmask-train --data wiki-bin --run runs/english --config "$here/../wikipedia/settings.toml"
}
chinese() { # titles and reviews without labels; the last 500 of each set are held out
  for name in tnews eprstmt; do
    zcat $data/$name/unlabeled.txt.gz | head -n -500 > text/$name.txt
    zcat $data/$name/unlabeled.txt.gz | tail -n 500 > text/$name-valid.txt
  done
  [ -e zh-bin/dataset.json ] || taskmask-preprocess --train text/tnews.txt text/eprstmt.txt \
    --valid text/tnews-valid.txt text/eprstmt-valid.txt --documents line --vocab-size 8000 --out zh-bin
  taskmask-train --data zh-bin --run runs/chinese --config "$here/../wikipedia/settings.toml" --train.steps 1500
}

for set in "${@:2}"; do
  folder=$data/$set train=train.tsv dev=dev.tsv test=test.tsv encoder=english epochs=2 columns=text pair=
  case $set in
    ag_news) test=test.tsv.gz ;;
    laptop | restaurant) # every tenth row of train is held out as dev; the second text is the aspect
      folder=text epochs=3 train=$set-train.tsv dev=$set-dev.tsv test=$set-test.tsv columns="text aspect" pair=aspect
      awk 'NR == 1 || NR % 10' $data/semeval14/${set}_train.tsv > text/$train
      awk 'NR == 1 || NR % 10 == 0' $data/semeval14/${set}_train.tsv > text/$dev
      cp $data/semeval14/${set}_test.tsv text/$test
      ;;
    clinc150) dev=val.tsv epochs=4 ;;
    eprstmt) encoder=chinese epochs=10 train=train_few_all.tsv dev=dev_few_all.tsv test=test_public.tsv ;;
    tnews) encoder=chinese epochs=8 train=train_few_all.tsv dev=dev_few_all.tsv test=test_public.tsv ;;
  esac
  $encoder
  [ -e $set-bin/dataset.json ] || taskmask-preprocess --train $folder/$train --valid $folder/$dev --test $folder/$test \
    --text $columns --vocab runs/$encoder --out $set-bin
  taskmask-train --config "$here/settings.toml" --data $set-bin --run runs/$set-pretrained --task.pair "$pair" \
    --train.epochs $epochs --train.precision bf16 --train.seed 1 2 3 4 5 --train.init_from runs/$encoder
  taskmask-train --config runs/$encoder/settings.json --config "$here/settings.toml" --data $set-bin --run runs/$set-scratch \
    --task.pair "$pair" --train.epochs $epochs --train.precision bf16 --train.seed 1 2 3 4 5 --train.init_from "" --train.valid_every none
  for run in pretrained scratch; do
    echo "$set, $run:"
    taskmask evaluate --from runs/$set-$run --split test
  done
  python "$here/bag_of_words.py" $folder/$train $folder/$dev $folder/$test
done
