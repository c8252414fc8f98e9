# Sourced by the scripts real.sh, with the folder of the data in $data: a small encoder of Wikipedia (runs/wiki), and
# sentences of film reviews, in small letters as MR is, as the text of the domain (imdb-text-bin). In the present folder.
small() { tr A-Z a-z; }
sentences() { sed -E "s/([.!?][\"')]*) +/\1\n/g" | small | awk 'length >= 20'; }
mkdir -p text

[ -e wiki-bin/dataset.json ] || {
  zcat "$data"/wiki_en/train.txt.gz "$data"/wiki_simple/train.txt.gz > text/wiki.txt
  cat "$data"/wiki_en/valid.txt "$data"/wiki_simple/valid.txt > text/wiki-valid.txt
  taskmask-preprocess --train text/wiki.txt --valid text/wiki-valid.txt --vocab-size 8000 --out wiki-bin
}
taskmask-train --data wiki-bin --data.length 64 --run runs/wiki --model tiny --model.width 192 --model.heads 3 --model.norm pre \
  --model.positions rotary --model.pool mean --model.dropout 0 --model.attention_dropout 0 --optim.lr 2e-3 --train.steps 800

[ -e imdb-text-bin/dataset.json ] || {
  zcat "$data"/imdb/unsup.txt.gz | sentences > text/imdb.txt
  head -n 60000 text/imdb.txt > text/imdb-train.txt
  tail -n 2000 text/imdb.txt > text/imdb-valid.txt
  taskmask-preprocess --train text/imdb-train.txt --valid text/imdb-valid.txt --documents line --vocab runs/wiki --out imdb-text-bin
}
