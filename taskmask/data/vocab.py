"""Text to token ids and back: a SentencePiece model, its special pieces, and where words start."""

from __future__ import annotations

import hashlib
import io
import re
import threading
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from taskmask.data.word_cache import SPACE, WordCache, is_sum_of_words
from taskmask.data.words import is_unspaced, piece_flags, word_numbers
from taskmask.errors import ConfigError, DataError, did_you_mean

VOCABULARY_FILE = "vocab.model"
PAD, BOS, EOS, UNK, MASK = "<pad>", "<s>", "</s>", "<unk>", "<mask>"
_ANCHOR = "\U0010fffd"  # private use: part of no piece, so nothing merges across it
_LONGEST_ENCODED = 1 << 18  # bytes; longer texts are encoded in parts, which bounds the engine's memory
_LONGEST_TRAINED = 4000  # bytes; SentencePiece skips longer sentences
_TRAINING_THREADS = 16  # fixed: the trainer sums floats by thread, so another number gives another vocabulary


class Vocabulary:
    """A SentencePiece model with the five special pieces `<pad> <s> </s> <unk> <mask>`.

    The special ids are looked up by piece name. Those that a foreign model lacks are appended after its own pieces, in
    the order above, so its own ids never move. It pickles by its model bytes. `num_threads` is that of the engine;
    -1 is one a core.

    Args:
        model_bytes: the content of a SentencePiece `.model` file.
        name: what to call it in error messages, e.g. the path.

    Raises:
        DataError: the bytes are no SentencePiece model.
    """

    def __init__(self, model_bytes: bytes, name: str = "vocabulary"):
        self.model_bytes = model_bytes
        self.num_threads = -1
        self._engine = _load_engine(model_bytes, name)
        num_own = self._engine.vocab_size()
        self._pieces: list[str] = list(self._engine.id_to_piece(list(range(num_own))))
        self._ids = {piece: id for id, piece in enumerate(self._pieces)}
        for special in (PAD, BOS, EOS, UNK, MASK):
            if special not in self._ids:
                self._ids[special] = len(self._pieces)
                self._pieces.append(special)
        self.pad, self.bos, self.eos, self.unk, self.mask = (self._ids[s] for s in (PAD, BOS, EOS, UNK, MASK))
        self.is_special = np.zeros(len(self._pieces), bool)
        self.is_special[[self.pad, self.bos, self.eos, self.unk, self.mask]] = True
        self.is_special[[id for id in range(num_own) if self._engine.is_control(id)]] = True

    @classmethod
    def load(cls, path: str | Path) -> Vocabulary:
        """Reads a `.model` file, or the vocabulary of a dataset folder."""
        path = Path(path)
        if path.is_dir():
            path = path / VOCABULARY_FILE
        try:
            if path.exists() and not path.is_file():  # a device or a pipe is read for ever
                raise DataError("is no plain file", where=str(path), expected="a SentencePiece .model file")
            return cls(path.read_bytes(), name=str(path))
        except OSError as error:
            raise DataError(
                f"cannot read the vocabulary: {error.strerror}",
                where=str(path),
                expected="a SentencePiece .model file or a dataset folder",
            ) from error

    def __reduce__(self) -> tuple:
        return Vocabulary, (self.model_bytes,)

    @property
    def size(self) -> int:
        """Number of pieces, specials included."""
        return len(self._pieces)

    @property
    def special_ids(self) -> np.ndarray:
        """Ids of the five specials and of every other control piece, ascending, int64."""
        return np.flatnonzero(self.is_special)

    @cached_property
    def fingerprint(self) -> str:
        """sha256 of the model bytes, hexadecimal."""
        return hashlib.sha256(self.model_bytes).hexdigest()

    @property
    def token_dtype(self) -> str:
        """The smallest of uint16 and uint32 that holds every id."""
        return "uint16" if self.size <= 1 << 16 else "uint32"

    def piece(self, id: int) -> str:
        """The piece of one id, e.g. `▁the`."""
        return self.pieces([id])[0]

    def pieces(self, ids: Sequence[int] | np.ndarray) -> list[str]:
        """The piece of each id."""
        return [self._pieces[id] for id in self._checked(ids).tolist()]

    def _checked(self, ids: Sequence[int] | np.ndarray) -> np.ndarray:
        array = np.asarray(ids, dtype=np.int64)
        outside = array[(array < 0) | (array >= self.size)]
        if outside.size:
            raise DataError(f"token id {outside[0]} is not in the vocabulary", expected=f"0 to {self.size - 1}")
        return array

    def ids_of_pieces(self, pieces: Iterable[str]) -> np.ndarray:
        """Ids of pieces written as in the vocabulary (`▁the`) or as text: `the` is both `the` and `▁the`.

        Returns:
            int64, all forms there are of each.

        Raises:
            DataError: one is no single piece.
        """
        return np.array([id for piece in pieces for id in self._forms_of(piece)], dtype=np.int64)

    def _forms_of(self, piece: str) -> list[int]:
        forms = [self._ids[form] for form in (piece, SPACE + piece) if form in self._ids]
        if forms:
            return forms
        names = [known.removeprefix(SPACE) for known in self._pieces]
        raise DataError(
            f"{piece!r} is no piece of the vocabulary",
            expected="a single piece",
            fix=did_you_mean(piece.removeprefix(SPACE), names),
        )

    def encode(self, texts: Sequence[str | bytes]) -> list[np.ndarray]:
        """Encodes texts.

        Args:
            texts: strings or UTF-8 bytes, without line breaks.

        Returns:
            One int32 array of ids per text, no specials added, read-only.
        """
        if any(len(text) > _LONGEST_ENCODED for text in texts):
            return [self._encode_long(text) for text in texts]
        return self._engine.encode(list(texts), out_type="numpy", num_threads=self.num_threads)

    def _encode_long(self, text: str | bytes) -> np.ndarray:
        raw = text.encode() if isinstance(text, str) else text
        parts = self.encode(list(cut_text(raw, _LONGEST_ENCODED)))
        return np.concatenate([np.zeros(0, np.int32), *parts])

    def encode_flat(self, texts: Sequence[bytes]) -> tuple[np.ndarray, np.ndarray]:
        """Encodes UTF-8 texts as `encode` does, many at once: (ids of all int32, number of ids of each int64)."""
        space = SPACE.encode()
        if self._words is not None and not any(space in text or len(text) >= _LONGEST_ENCODED for text in texts):
            return self._words.encode(texts)
        arrays = self.encode(texts)
        return np.concatenate([np.zeros(0, np.int32), *arrays]), np.fromiter(map(len, arrays), np.int64, len(arrays))

    @cached_property
    def _words(self) -> WordCache | None:
        own = self._pieces[: self._engine.vocab_size()]
        return WordCache(self.encode, own) if is_sum_of_words(self._engine, own) else None

    def encode_with_masks(self, text: str) -> np.ndarray:
        """Encodes a text in which `<mask>` stands for masked tokens, int32.

        What follows a mask directly (`un<mask>able`) is encoded as the inside of a word, what follows with a space
        (`the <mask> sat`) as a new word. A space before a mask belongs to what is masked.
        """
        first, *others = re.sub(r"[\x00-\x20\x7f]+", " ", text).split(MASK)
        parts = [self.encode([first.strip(" ")])[0]]
        for chunk in others:
            parts += [np.array([self.mask], np.int32), self._encode_inside(chunk.rstrip(" "))]
        return np.concatenate(parts)

    def _encode_inside(self, text: str) -> np.ndarray:
        """Encodes without the space that SentencePiece puts before every text."""
        anchor, anchored = self.encode([_ANCHOR, _ANCHOR + text])
        return anchored[len(anchor) :]

    def decode(self, ids: Sequence[int] | np.ndarray) -> str:
        """The text of ids: specials are left out, a mask is written `<mask>`.

        A mask does not know whether it hides a whole word; a space is written before it unless the next piece goes on
        inside the word, or the piece before it is of a script written without spaces.
        """
        shown = self._checked(ids)
        shown = shown[~self.is_special[shown] | (shown == self.mask)]
        text = b""
        for at, piece in enumerate(self.pieces(shown)):
            if shown[at] == self.mask:
                spaced_before = text and not is_unspaced(text.decode("utf-8", errors="replace")[-1])
                following = shown[at + 1] if at + 1 < len(shown) else self.mask
                if spaced_before and (following == self.mask or self.starts_word[following]):
                    text += b" "
                text += MASK.encode()
            else:
                text += _piece_bytes(piece)
        return text.decode("utf-8", errors="replace").removeprefix(" ")

    @cached_property
    def _flags(self) -> np.ndarray:
        return piece_flags(self._pieces, self.is_special)

    @cached_property
    def starts_word(self) -> np.ndarray:
        """bool [V]: the piece always starts a word (see `taskmask.data.words`)."""
        return (self._flags & 1).astype(bool)

    @cached_property
    def ends_word(self) -> np.ndarray:
        """bool [V]: the piece always ends a word."""
        return (self._flags & 2).astype(bool)

    def word_numbers(self, tokens: np.ndarray) -> np.ndarray:
        """Word number of each token, from 0 in every row; -1 at specials and padding.

        Args:
            tokens: int [B, T].

        Returns:
            int32 [B, T].
        """
        return word_numbers(tokens, self._flags)


def train_vocabulary(
    lines: Iterable[str | bytes], size: int, kind: str = "unigram", character_coverage: float = 0.9995
) -> bytes:
    """Trains a SentencePiece model; the same lines give the same bytes on every machine.

    Text is not normalised (spaces are collapsed), characters outside the coverage become UTF-8 bytes, so nothing is
    ever unknown. `<mask>` is a control piece: the raw text `<mask>` never encodes to it.

    Args:
        lines: texts, each without line breaks.
        size: number of pieces, specials and the 256 bytes included.
        kind: "unigram" or "bpe".
        character_coverage: share of the characters that get a piece of their own, 0.98 to 1.

    Returns:
        The model, as `Vocabulary` takes it.

    Raises:
        DataError: the text is empty, or the size does not fit it.
    """
    if kind not in ("unigram", "bpe"):
        raise ConfigError(f"{kind!r} is no kind of vocabulary", expected="unigram or bpe")
    if not 0 < character_coverage <= 1:
        raise ConfigError(f"character coverage is {character_coverage}", expected="more than 0, at most 1")
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
        control_symbols=[MASK],
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


def _load_engine(model_bytes: bytes, name: str) -> Any:
    import sentencepiece

    try:
        engine = sentencepiece.SentencePieceProcessor(model_proto=model_bytes) if model_bytes else None
        if engine is not None and engine.vocab_size() > 0:
            engine.encode(["a"], out_type="numpy")
            return engine
    except (RuntimeError, OSError, UnicodeDecodeError):
        pass
    raise DataError(
        f"this is no SentencePiece model ({len(model_bytes)} bytes)",
        where=name,
        expected="an undamaged SentencePiece .model file",
        fix="copy the file again, or train one with taskmask-preprocess --vocab-size N",
    )


def _piece_bytes(piece: str) -> bytes:
    byte = re.fullmatch(r"<0x([0-9A-F]{2})>", piece)
    return bytes([int(byte[1], 16)]) if byte else piece.replace(SPACE, " ").encode()
