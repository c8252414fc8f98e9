"""What the benchmarks work on: text of any size, rows of random tokens, and one vocabulary for taskmask and peers."""

from __future__ import annotations

import io
import json
import os
import random
import sysconfig
from pathlib import Path
from typing import Any

import numpy as np

from taskmask.data.dataset import Column
from taskmask.data.writer import DatasetWriter
from taskmask.preprocess import python_docs
from taskmask.tokenizer.backend import BOS, EOS, MASK, PAD, UNK
from taskmask.tokenizer.tokenizer import Vocabulary

SPECIALS = {"pad_token": PAD, "bos_token": BOS, "eos_token": EOS, "unk_token": UNK, "mask_token": MASK}


def base_lines(text: str | None) -> list[bytes]:
    """Returns the lines with text of a file; without one, the documentation and the sources that ship with Python."""
    if text:
        lines = Path(text).read_bytes().splitlines()
    else:
        records = python_docs.open_records("python-docs:train").read().splitlines()
        lines = [json.loads(record)["text"].encode() for record in records]
        for file in sorted(Path(sysconfig.get_paths()["stdlib"]).glob("**/*.py")):
            if not {"site-packages", "dist-packages", "test", "tests"} & set(file.parts):
                paragraphs = file.read_text(encoding="utf-8", errors="ignore").split("\n\n")
                lines += [" ".join(paragraph.split()).encode() for paragraph in paragraphs]
    return [line for line in lines if line.strip()]


def write_text(file: Path, lines: list[bytes], megabytes: float) -> int:
    """Writes `megabytes` (10^6 bytes) of the lines, shuffled anew each time they are used up; returns the bytes."""
    size, times = 0, 0
    with open(file, "wb") as out:
        while size < megabytes * 1e6:
            order = lines[:]
            random.Random(times).shuffle(order)
            for line in order:
                size += out.write(line + b"\n")
                if size >= megabytes * 1e6:
                    break
            times += 1
    return size


def word_vocabulary(size: int) -> Vocabulary:
    """Returns a vocabulary of exactly `size` made-up words, for rows of random tokens."""
    import sentencepiece

    model = io.BytesIO()
    words = [f"w{i}" for i in range(size - 5)]
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=(" ".join(words[at : at + 500]) for at in range(0, len(words), 500)),
        model_writer=model,
        model_type="word",
        vocab_size=size,
        **{"pad_id": 0, "bos_id": 1, "eos_id": 2, "unk_id": 3, "pad_piece": PAD, "control_symbols": [MASK]},
        character_coverage=1.0,
        minloglevel=2,
    )
    return Vocabulary(model.getvalue())


def write_random_rows(folder: Path, vocab_size: int, num_rows: int, length: int, arrow: bool) -> None:
    """Writes the same full rows of random tokens twice: as a dataset of taskmask, and as one of `datasets`.

    A row of the model is `<s> content </s>` of `length` tokens. Ids follow Zipf's law, as words do.

    Args:
        folder: gets `bin`, `arrow` and `tokenizer.json`.
        vocab_size: pieces of the vocabulary.
        num_rows: rows of the split train; there is no other.
        length: tokens of each row.
        arrow: whether to write the second.
    """
    vocab = word_vocabulary(vocab_size)
    generator = np.random.default_rng(1)
    rows = np.full((num_rows, length), vocab.eos)
    content = generator.zipf(1.2, (num_rows, length - 2)) % (vocab_size - 5) + 5
    rows[:, 0], rows[:, 1:-1] = vocab.bos, content
    with DatasetWriter(folder / "bin", vocab) as writer:
        split = writer.split("train", {"tokens": Column("ragged", vocab.token_dtype)})
        split.append({"tokens": (rows[:, 1:].reshape(-1), np.full(num_rows, length - 1))})
    if arrow:
        import datasets

        special = (rows < 5).astype(np.int8)
        both = {"input_ids": rows.tolist(), "special_tokens_mask": special.tolist()}
        datasets.Dataset.from_dict(both).save_to_disk(str(folder / "arrow"))
        hf_tokenizer_of(vocab).save(str(folder / "tokenizer.json"))


def hf_tokenizer_of(vocab: Vocabulary, kind: str = "unigram") -> Any:
    """Returns a `tokenizers.Tokenizer` with the pieces, ids, and scores or merges of a SentencePiece model.

    It collapses spaces and puts one before the text, as the models of taskmask do, and ends each text with `</s>`.

    Args:
        vocab: the vocabulary; a model without bytes (of whole words) serves for its ids alone.
        kind: "unigram" or "bpe".
    """
    import sentencepiece
    from tokenizers import AddedToken, Regex, Tokenizer, models, normalizers, pre_tokenizers, processors

    engine = sentencepiece.SentencePieceProcessor(model_proto=vocab.model_bytes)
    pieces = vocab.pieces(range(vocab.size))
    scores = [engine.get_score(i) for i in range(engine.vocab_size())] + [0.0] * (vocab.size - engine.vocab_size())
    byte_fallback = any(engine.is_byte(i) for i in range(engine.vocab_size()))
    if kind == "unigram":
        model = models.Unigram(list(zip(pieces, scores, strict=True)), vocab.unk, byte_fallback)
    else:
        ids = {piece: number for number, piece in enumerate(pieces)}
        model = models.BPE(ids, merges_of(ids, scores), unk_token=UNK, fuse_unk=True, byte_fallback=byte_fallback)
    tokenizer = Tokenizer(model)
    tokenizer.normalizer = normalizers.Sequence([normalizers.Replace(Regex(" {2,}"), " "), normalizers.Strip()])
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always", split=True)
    tokenizer.post_processor = processors.TemplateProcessing(single=f"$A {EOS}", special_tokens=[(EOS, vocab.eos)])
    tokenizer.add_special_tokens([AddedToken(piece, special=True) for piece in (PAD, BOS, EOS, UNK, MASK)])
    return tokenizer


def merges_of(ids: dict[str, int], scores: list[float]) -> list[tuple[str, str]]:
    """Returns the merges of a SentencePiece BPE model: a piece arises from any two pieces, best pieces first."""
    merges = []
    for piece, number in ids.items():
        halves = [(piece[:at], piece[at:]) for at in range(1, len(piece))]
        known = [(ids[left], ids[right]) for left, right in halves if left in ids and right in ids]
        merges += [(-scores[number], left, right) for left, right in sorted(known)]
    names = list(ids)
    return [(names[left], names[right]) for _, left, right in sorted(merges, key=lambda merge: merge[0])]


def fast_tokenizer(file: str | Path) -> Any:
    """Returns the tokenizer of transformers made from a saved `tokenizers.Tokenizer`."""
    from transformers import PreTrainedTokenizerFast

    return PreTrainedTokenizerFast(tokenizer_file=os.fspath(file), model_max_length=10**9, **SPECIALS)
