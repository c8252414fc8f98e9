#!/usr/bin/env bash
# The main job, whole, on text that ships with Python itself: prepare, train, evaluate, fill masks.
# Installation and, on two CPU cores, two minutes of training on a quick machine, ten on a slow one. No file is needed.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/../environment.sh" ""
out=${1:-"$root/runs/quickstart"}

if [ ! -e "$out/data/dataset.json" ]; then
  echo; echo "== 1. prepare: the docstrings and manual of Python, to a binarized dataset"
  mkdir -p "$out"
  taskmask-preprocess --train python-docs:train --valid python-docs:valid --test python-docs:test \
    --vocab-size 4000 --out "$out/data"
fi

echo; echo "== 2. train: a small encoder, whole words masked (stop it with Ctrl-C if you like: the same command goes on)"
taskmask-train --data "$out/data" --run "$out/run" --config "$(dirname "${BASH_SOURCE[0]}")/settings.toml"

echo; echo "== 3. evaluate: on text it has not seen, with the masker of the training and with another"
taskmask evaluate --from "$out/run" --split test
taskmask evaluate --from "$out/run" --split test --masker span --json

echo; echo "== 4. predict: fill the masks"
taskmask predict --from "$out/run" --top 5 \
  "Return a <mask> of the object." \
  "If the file does not <mask>, an exception is raised." \
  "The <mask> is a list of strings."

cat <<END
== done
  the run        $out/run  (checkpoints, settings.json, log.jsonl)
  look at it     $root/.venv/bin/tensorboard --logdir $out/run
  what it masks  $root/.venv/bin/taskmask-train --data $out/data --run $out/other --masker span --dry-run
  another one    $root/.venv/bin/taskmask-train --config $out/run/settings.json --run $out/spans --masker span
  your own text  $root/.venv/bin/taskmask-preprocess --train my.txt --valid other.txt --out my-data
  your own mask  see examples/custom_masker
END
