#!/bin/bash
# WordPieceTrainer of tokenizers makes another vocabulary in every process, from the same text.
#
# Guess: a trainer without a seed is deterministic. WordPieceTrainer wraps BpeTrainer; if the one makes the same file
#   every time, the other does, too.
#
# Library: tokenizers 0.23.3. Source: tokenizers/src/models/bpe/trainer.rs (tokenize_words) gives a "##" piece its id
#   where it first meets it, and goes through the words in the order of a hash table, which each process seeds anew.
#   The sorted alphabet of BPE has no such pieces. Issue 1794 of the project tells of it.
#
# Behaviour: BpeTrainer makes the same file in every process. WordPieceTrainer does not: the ids differ, and so does the
#   choice between pairs of equal count. Some words are then split otherwise. So a vocabulary cannot be made again from
#   its text, nor a dataset or a checkpoint: keep the tokenizer.json.
#
# Output seen:
#   bpe: 1 files in 6 processes
#   wordpiece: 6 files in 6 processes
#
# Exits with 1 if the behaviour has changed.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check tokenizers==0.23.3
cat > "$folder/train.py" <<'PYTHON'
import hashlib
import sys

from tokenizers import Tokenizer, models, pre_tokenizers, trainers

TEXT = ["the quick brown fox jumps over the lazy dog", "people sleep here and there", "a fox and a dog"] * 20
model, trainer = {
    "bpe": (models.BPE(unk_token="[UNK]"), trainers.BpeTrainer),
    "wordpiece": (models.WordPiece(unk_token="[UNK]"), trainers.WordPieceTrainer),
}[sys.argv[1]]
made = Tokenizer(model)
made.pre_tokenizer = pre_tokenizers.Whitespace()
made.train_from_iterator(TEXT, trainer(vocab_size=120, special_tokens=["[UNK]"], show_progress=False))
print(hashlib.sha1(made.to_str().encode()).hexdigest()[:8], made.encode("jump").tokens)
PYTHON
for kind in bpe wordpiece; do
  for _ in 1 2 3 4 5 6; do "$folder/venv/bin/python" "$folder/train.py" $kind; done > "$folder/$kind"
  echo "$kind: $(cut -d' ' -f1 "$folder/$kind" | sort -u | wc -l) files in 6 processes"
done
[ "$(sort -u "$folder/bpe" | wc -l)" = 1 ]
[ "$(cut -d' ' -f1 "$folder/wordpiece" | sort -u | wc -l)" -gt 1 ]
