#!/usr/bin/env bash
# Fine-tunes a pre-trained encoder, and the same model from scratch beside it, with three seeds each.
#
#   bash examples/finetune/run.sh              which family of modules a docstring of Python comes from; pre-trains first
#   bash examples/finetune/run.sh DATA [RUN]   your own texts and labels: a folder with train.tsv, dev.tsv and test.tsv,
#                                              each with the columns text and label; RUN is a pre-trained run, such as
#                                              one of taskmask convert; without it there is only the model from scratch
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
texts=${1:+$(cd "$1" && pwd)} pretrained=${2:+$(cd "$2" && pwd)}
source "$here/../environment.sh" ""
out="$root/runs/finetune${texts:+-$(basename "$texts")}"
mkdir -p "$out"

if [ -z "$texts" ]; then
  label=family pretrained="$out/pretrained"
  echo; echo "== 1. prepare: the docstrings of Python, each with the family of modules that it comes from"
  [ -e "$out/data/dataset.json" ] ||
    taskmask-preprocess --train python-docs:train --valid python-docs:valid --test python-docs:test --label family \
      --vocab-size 4000 --out "$out/data"

  echo; echo "== 2. pre-train: a small encoder, on the texts alone"
  taskmask-train --data "$out/data" --run "$pretrained" --config "$here/../quickstart/settings.toml"
else
  label=label
  echo; echo "== 1. prepare: $texts"
  if [ -e "$out/data/dataset.json" ]; then
    echo "$out/data is there"
  elif [ -n "$pretrained" ]; then
    taskmask-preprocess --train "$texts/train.tsv" --valid "$texts/dev.tsv" --test "$texts/test.tsv" \
      --vocab "$pretrained" --out "$out/data"
  else
    taskmask-preprocess --train "$texts/train.tsv" --valid "$texts/dev.tsv" --test "$texts/test.tsv" \
      --vocab-size 4000 --out "$out/data"
  fi
fi

if [ -n "$pretrained" ]; then
  best="$out/finetuned/seed-1"
  echo; echo "== 3. fine-tune the pre-trained encoder"
  taskmask-train --data "$out/data" --run "$out/finetuned" --config "$here/settings.toml" --task.label "$label" \
    --train.init_from "$pretrained" --train.seed 1 2 3

  echo; echo "== 4. the same model from scratch"
  taskmask-train --config "$pretrained/settings.json" --config "$here/settings.toml" --train.init_from "" \
    --train.valid_every none --data "$out/data" --run "$out/scratch" --task.label "$label" --train.seed 1 2 3
else
  best="$out/scratch/seed-1"
  echo; echo "== 2. a small model, from scratch"
  taskmask-train --config "$here/../quickstart/settings.toml" --config "$here/settings.toml" \
    --data "$out/data" --run "$out/scratch" --task.label "$label" --train.seed 1 2 3
fi

if [ -z "$texts" ]; then
  echo; echo "== 5. predict"
  taskmask predict --from "$best" --top 3 \
    "Return a socket connected to the given host and port." \
    "Compute the arithmetic mean of the data." \
    "Draw a line from the current position to the given point."
fi

cat <<END
== done
  the figures    $out/finetuned/summary.json and $out/scratch/summary.json
  predict        $root/.venv/bin/taskmask predict --from $best "a text of your own"
  label data     $root/.venv/bin/taskmask annotate --data $out/data --from $best --column guess=label
END
