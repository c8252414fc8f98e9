#!/usr/bin/env bash
# Fully-explored masking on the docstrings of Python: what it masks, how far the gradient varies, and whether it matters.
# About six minutes on two CPU cores. No file is needed. The same command again goes on where it stopped.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
source "$here/../environment.sh" ""
cd "$root"
out=runs/fully_explored

echo; echo "== 1. prepare: the docstrings of Python, each with the family of modules that it comes from"
[ -e $out/data/dataset.json ] ||
  taskmask-preprocess --train python-docs:train --valid python-docs:valid --test python-docs:test --label family \
    --vocab-size 4000 --out $out/data

echo; echo "== 2. look: the masks of one row, which together cover it"
taskmask inspect --data $out/data --masker "fully_explored masks=4" --masker "fully_explored masks=4 of=span" \
  --text "Return a shallow copy of the list, whose items are those of the original."

echo; echo "== 3. compare: the same forward passes for all policies"
taskmask compare "$here/experiment.toml" --run $out/compare

echo; echo "== 4. measure: how much of the gradient's variance is due to masks"
taskmask variance --from $out/compare/by-name/pretraining --rows 16 --html $out/variance.html

cat <<END
== done
  the report     $root/$out/compare/report.html
  the variance   $root/$out/variance.html
END
