"""Training a SentencePiece vocabulary on text, and cutting long texts."""

from __future__ import annotations

import io
import re
import threading
from collections.abc import Iterable, Iterator
from typing import Any

from taskmask.errors import ConfigError, DataError
from taskmask.tokenizer.backend import BOS, EOS, MASK, PAD, UNK

_LONGEST_TRAINED = 4000  # bytes; SentencePiece skips longer sentences
_TRAINING_THREADS = 16  # fixed: the trainer sums floats by thread, so another number gives another vocabulary


def train_vocabulary(
    lines: Iterable[str | bytes],
    size: int,
    kind: str = "unigram",
    character_coverage: float = 0.9995,
    sentinels: int = 0,
) -> bytes:
    """Trains a SentencePiece model; the same lines give the same bytes on every machine.

    Text is not normalised (spaces are collapsed), characters outside the coverage become UTF-8 bytes, so nothing is
    ever unknown. `<mask>` is a control piece, as are sentinels: the raw text `<mask>` never encodes to it.

    Args:
        lines: texts, each without line breaks.
        size: number of pieces, specials and the 256 bytes included.
        kind: "unigram" or "bpe".
        character_coverage: share of the characters that get a piece of their own, 0.98 to 1.
        sentinels: how many of the pieces are T5's `<extra_id_0>`, `<extra_id_1>` ..., which mark spans.

    Returns:
        The model, as `Vocabulary` takes it.

    Raises:
        DataError: the text is empty, or the size does not fit it.
    """
    if kind not in ("unigram", "bpe"):
        raise ConfigError(f"{kind!r} is no kind of vocabulary", expected="unigram or bpe")
    if not 0.98 <= character_coverage <= 1:  # as SentencePiece has it
        raise ConfigError(f"character coverage is {character_coverage}", expected="0.98 to 1")
    if sentinels >= size:
        raise ConfigError(f"{sentinels:,} sentinels are no part of {size:,} pieces", expected=f"at most {size - 1:,}")
    raw = (line.encode() if isinstance(line, str) else line for line in lines)
    parts = (part for line in raw for part in cut_text(line, _LONGEST_TRAINED))
    model = io.BytesIO()
    options = dict(
        model_writer=model,
        vocab_size=size,
        model_type=kind,
        character_coverage=character_coverage,
        byte_fallback=True,
        pad_id=0,
        bos_id=1,
        eos_id=2,
        unk_id=3,
        pad_piece=PAD,
        bos_piece=BOS,
        eos_piece=EOS,
        unk_piece=UNK,
        control_symbols=[MASK, *(f"<extra_id_{number}>" for number in range(sentinels))],
        normalization_rule_name="identity",
        split_digits=False,
        max_sentence_length=2 * _LONGEST_TRAINED,
        num_threads=_TRAINING_THREADS,
        minloglevel=2,
    )
    try:
        _train_interruptibly(parts, options)
    except RuntimeError as error:
        raise _training_error(str(error), size) from error
    return model.getvalue()


def _train_interruptibly(parts: Iterator[bytes], options: dict[str, Any]) -> None:
    """Trains in a thread, so that Ctrl-C ends the program at once and not after the training."""
    import sentencepiece

    raised: list[BaseException] = []

    def train() -> None:
        try:
            sentencepiece.SentencePieceTrainer.train(sentence_iterator=parts, **options)
        except BaseException as error:
            raised.append(error)

    thread = threading.Thread(target=train, daemon=True)
    thread.start()
    thread.join()
    if raised:
        raise raised[0]


def _training_error(message: str, size: int) -> DataError:
    if too_high := re.search(r"too high .*value <= (\d+)", message):
        return DataError(
            f"a vocabulary of {size} pieces is too large for this text",
            expected=f"at most {too_high[1]}",
            fix="ask for fewer pieces or give more text",
        )
    if too_small := re.search(r"smaller than required_chars\. \d+ vs (\d+)", message):
        return DataError(
            f"a vocabulary of {size} pieces is too small for this text",
            expected=f"at least {too_small[1]} (256 bytes, 5 specials and the characters of the text)",
            fix="ask for more pieces or lower the character coverage",
        )
    if "sentences_.empty" in message or "all_chars_count" in message:
        return DataError("there is no text to train a vocabulary on")
    return DataError(f"SentencePiece cannot train a vocabulary of {size} pieces: {message}")


def cut_text(text: bytes, limit: int) -> Iterator[bytes]:
    """Cuts UTF-8 text into parts of at most `limit` bytes (4 or more), at a space if the part has one.

    Never inside a character. The parts joined are the text.
    """
    start = 0
    while len(text) - start > limit:
        stop = text.rfind(b" ", start + 1, start + limit)
        if stop < 0:
            stop = start + limit
            while text[stop] & 0xC0 == 0x80:
                stop -= 1
        yield text[start:stop]
        start = stop
    yield text[start:]
