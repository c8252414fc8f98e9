#!/usr/bin/env bash
# Predictions for pre-training (Guo 2020), whole, a line a stage, on the docstrings that ship with Python: 363 of them with
# labels, and the others without. No file is needed.
# About eight minutes on two CPU cores. The same command again goes on where it stopped.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
source "$here/../environment.sh" ""
cd "$root"
out=runs/pseudo_labels

echo; echo "== 1. prepare: many docstrings without labels, few with"
[ -e $out/corpus/dataset.json ] || taskmask-preprocess --train python-docs:train --vocab-size 4000 --out $out/corpus
[ -e $out/few/dataset.json ] || taskmask-preprocess --train python-docs:valid --test python-docs:test --label family --vocab $out/corpus --out $out/few

echo; echo "== 2. pre-training, the original model"
taskmask-train --config "$here/../selective_masking/settings.toml" --data $out/corpus --run $out/original --train.steps 600

echo; echo "== 3. the teacher, fine-tuned on the few labels"
taskmask-train --config "$here/../selective_masking/settings.toml" --data $out/few --run $out/teacher --train.init_from $out/original --task classification --task.label family --train.steps 150

echo; echo "== 4. its labels, and the scores behind them, of the docstrings without; none of those to be tested"
taskmask annotate --data $out/corpus --from $out/teacher --column pseudo=label sure=confidence logits=logits --overwrite

echo; echo "== 5. for classic self-training: the sure ones, as many of each family, beside the labels of people"
taskmask annotate --data $out/corpus --from $out/teacher --column family=label family_sure=confidence --confident 0.5 --balance --to-tsv $out/sure.tsv --overwrite
taskmask-preprocess --train python-docs:valid $out/sure.tsv --test python-docs:test --label family --vocab $out/corpus --out $out/mixed --overwrite

echo; echo "== 6. go on from the original model with each variant, fine-tune, report"
taskmask compare "$here/experiment.toml" --run $out/compare

cat <<END
== done
  the report     $root/$out/compare/report.html
  the labels     $root/.venv/bin/taskmask list --data $out/corpus
END
