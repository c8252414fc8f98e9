#!/bin/bash
# The normalizer Precompiled of tokenizers loses a combining mark that SentencePiece keeps.
#
# Guess: tokenizers.normalizers.Precompiled, with the table of a SentencePiece model, normalises as SentencePiece does
#   with the same table: this is what a tokenizer.json made of XLM-R, ALBERT or T5 relies on.
#
# Libraries: tokenizers 0.23.3, sentencepiece 0.2.1 (table nmt_nfkc). Source: tokenizers/src/normalizers/precompiled.rs,
#   which looks a whole grapheme up first; the table answers with its longest prefix.
#
# Behaviour: a character that the table replaces (a ligature, a full-width letter) and the mark
# behind it are one grapheme. The table knows its first character only, and the replacement of that one takes the place
# of the whole grapheme: the mark is gone, without a word, and so is its token.
#
# Output seen:
#   ['0xfb01', '0x301'] sentencepiece ['0x66', '0x69', '0x301'] tokenizers ['0x66', '0x69']
#   ['0xff24', '0x323'] sentencepiece ['0x1e0c'] tokenizers ['0x44']
#   ['0x65', '0x301'] sentencepiece ['0xe9'] tokenizers ['0xe9']
#
# Exits with 1 if the behaviour has changed.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check tokenizers==0.23.3 sentencepiece==0.2.1 protobuf
"$folder/venv/bin/python" - <<'PYTHON'
import io
import sys

import sentencepiece
from sentencepiece import sentencepiece_model_pb2
from tokenizers.normalizers import Precompiled

model = io.BytesIO()
sentencepiece.SentencePieceTrainer.train(
    sentence_iterator=iter(["the quick brown fox jumps over the lazy dog"] * 9), model_writer=model, vocab_size=40,
    model_type="bpe", normalization_rule_name="nmt_nfkc", minloglevel=2,
)
processor = sentencepiece.SentencePieceProcessor(model_proto=model.getvalue())
proto = sentencepiece_model_pb2.ModelProto.FromString(model.getvalue())
precompiled = Precompiled(proto.normalizer_spec.precompiled_charsmap)
lost = []
for text in ("\ufb01\u0301", "\uff24\u0323", "e\u0301"):
    kept = processor.normalize(text).removeprefix("\u2581")
    found = precompiled.normalize_str(text)
    codes = [[hex(ord(character)) for character in part] for part in (text, kept, found)]
    print(codes[0], "sentencepiece", codes[1], "tokenizers", codes[2])
    lost.append(kept != found)
sys.exit(lost != [True, True, False])
PYTHON
