#!/bin/bash
# The strict mode of seqeval loses an entity of valid IOE1 tags.
#
# Guess: seqeval.metrics in mode="strict" with scheme=IOE1 finds every entity of valid IOE1 tags, as its README lists IOE1
#   among the supported schemes, without a restriction.
#
# Library: seqeval 1.2.2. Source: README.md, "Support features"; seqeval/scheme.py, class IOE1.
#
# Behaviour: in IOE1 an entity ends with E only if another of its type follows at once. An entity of one word, E-LOC after
# O, before an entity I-LOC I-LOC, is not found: the start patterns of IOE1 have no (O, E). So recall is measured
# over 3 true entities, not 4, and F1 is 0.667, not 0.571 (the value of the same entities in IOB2 and IOE2).
#
# Output seen:
#   IOB2 [('PER', 0, 2), ('LOC', 3, 4), ('LOC', 4, 6), ('PER', 6, 7)] f1 0.571
#   IOE2 [('PER', 0, 2), ('LOC', 3, 4), ('LOC', 4, 6), ('PER', 6, 7)] f1 0.571
#   IOE1 [('PER', 0, 2), ('LOC', 4, 6), ('PER', 6, 7)] f1 0.667
#
# Exits with 1 if the behaviour has changed.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check seqeval==1.2.2
"$folder/venv/bin/python" - <<'PYTHON'
import sys

from seqeval import scheme
from seqeval.metrics import f1_score

SPELLINGS = {  # the same entities, and the same guess, which joins the two of type LOC
    "IOB2": ("B-PER I-PER O B-LOC B-LOC I-LOC B-PER", "B-PER I-PER O B-LOC I-LOC I-LOC B-PER"),
    "IOE2": ("I-PER E-PER O E-LOC I-LOC E-LOC E-PER", "I-PER E-PER O I-LOC I-LOC E-LOC E-PER"),
    "IOE1": ("I-PER I-PER O E-LOC I-LOC I-LOC I-PER", "I-PER I-PER O I-LOC I-LOC I-LOC I-PER"),
}
found = {}
for name, spelling in SPELLINGS.items():
    truth, guess = ([tags.split() + ["O"]] for tags in spelling)
    kind = getattr(scheme, name)
    entities = [(one.tag, one.start, one.end) for one in scheme.Entities(truth, kind).entities[0]]
    found[name] = entities, round(f1_score(truth, guess, mode="strict", scheme=kind), 3)
    print(name, entities, "f1", found[name][1])
expected = [("PER", 0, 2), ("LOC", 3, 4), ("LOC", 4, 6), ("PER", 6, 7)]
is_as_seen = found["IOB2"] == found["IOE2"] == (expected, 0.571)
is_as_seen &= found["IOE1"] == ([one for one in expected if one != ("LOC", 3, 4)], 0.667)
sys.exit(0 if is_as_seen else 1)
PYTHON
