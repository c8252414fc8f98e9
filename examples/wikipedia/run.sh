#!/usr/bin/env bash
# Trains a small encoder on your own plain text, such as some megabytes of Wikipedia (documents separated by blank
# lines, or one a line), and draws its curve:
#   bash examples/wikipedia/run.sh TRAIN.txt VALID.txt [FOLDER]
set -euo pipefail
[ $# -ge 2 ] || { echo "usage: bash examples/wikipedia/run.sh TRAIN.txt VALID.txt [FOLDER]" >&2; exit 2; }
source "$(dirname "${BASH_SOURCE[0]}")/../environment.sh" "[examples]"
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
out=${3:-"$root/runs/wikipedia"}

mkdir -p "$out"
[ -e "$out/data/dataset.json" ] ||
  taskmask-preprocess --train "$1" --valid "$2" --vocab-size 16000 --out "$out/data"
taskmask-train --data "$out/data" --run "$out/run" --config "$here/settings.toml"
for masker in uniform whole_word span; do
  taskmask evaluate --from "$out/run" --masker "$masker"
done
taskmask predict --from "$out/run" "Paris is the <mask> of France." "He was born in <mask> in 1956."
python "$here/plot.py" "$out/run" "$out/curve.png"
echo "the curve is in $out/curve.png"
