#!/usr/bin/env bash
# Selective masking (Gu et al. 2020), whole, a line a stage, on the docstrings that ship with Python: a classifier says
# which words matter to it, a tagger learns that of it, and its scores say what is masked. No file is needed.
# About ten minutes on two CPU cores. The same command again goes on where it stopped.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
source "$here/../environment.sh" ""
cd "$root"
out=runs/selective_masking

echo; echo "== 1. prepare: docstrings, each with the family of modules that it comes from"
[ -e $out/data/dataset.json ] || taskmask-preprocess --train python-docs:train --valid python-docs:valid --test python-docs:test --label family --vocab-size 4000 --out $out/data

echo; echo "== 2. general pre-training"
taskmask-train --config "$here/settings.toml" --data $out/data --run $out/general --train.steps 600

echo; echo "== 3. the classifier, fine-tuned on the labels"
taskmask-train --config "$here/settings.toml" --data $out/data --run $out/classifier --train.init_from $out/general --task classification --task.label family --train.steps 500 --train.valid_every 100

echo; echo "== 4. which words matter to it: columns of the labelled data"
taskmask annotate --data $out/data --from $out/classifier --task word_importance --split train valid --column important importance=score use=use --overwrite

echo; echo "== 5. the masking model: a tagger that tells such words from others, without labels of texts"
taskmask-train --config "$here/settings.toml" --data $out/data --run $out/tagger --train.init_from $out/general --task tagging --task.label important --task.pieces all --criterion.class_weights important=3 --train.metric f1_important --train.steps 400 --train.valid_every 100

echo; echo "== 6. its scores over the text to go on with: here the same docstrings"
taskmask annotate --data $out/data --from $out/tagger --split train valid --column score=probability:important --overwrite

echo; echo "== 7. go on from the general model with each policy, fine-tune, report"
taskmask compare "$here/experiment.toml" --run $out/compare

cat <<END
== done
  the report     $root/$out/compare/report.html
  what it masks  $root/.venv/bin/taskmask inspect --data $out/data --masker uniform --masker "scored column=score above=0.5"
END
