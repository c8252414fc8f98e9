#!/usr/bin/env bash
# Compares three masking policies with three seeds each, from preparing the data to the report. No file is needed.
# About four minutes on two CPU cores. The same command again goes on where it stopped, or takes what is there.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
source "$here/../environment.sh" ""
cd "$root"

echo; echo "== 1. prepare: the docstrings of Python, each with the family of modules that it comes from"
[ -e runs/compare/data/dataset.json ] ||
  taskmask-preprocess --train python-docs:train --valid python-docs:valid --test python-docs:test --label family \
    --vocab-size 4000 --out runs/compare/data

echo; echo "== 2. compare: pre-train once, go on with each policy, fine-tune, report"
taskmask compare "$here/experiment.toml" --run runs/compare

cat <<END
== done
  the report     $root/runs/compare/report.html
  look at it     $root/.venv/bin/tensorboard --logdir $root/runs/compare/by-name
  another one    change examples/compare/experiment.toml: only what depends on the change is trained
END
