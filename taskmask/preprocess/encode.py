"""Parsed chunks to the columns of a dataset: which columns a file becomes, and their values."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from taskmask.data.dataset import Column
from taskmask.errors import DataError
from taskmask.preprocess.parse import Parsed, parse
from taskmask.preprocess.schema import Layout
from taskmask.tokenizer.tokenizer import Vocabulary

if TYPE_CHECKING:
    from taskmask.preprocess.readers import Chunk

_DOCUMENT = "document"
_CONTEXTS_AT_ONCE = 64
Ragged = tuple[np.ndarray, np.ndarray]  # flat values, row lengths
Spans = tuple[np.ndarray, np.ndarray, np.ndarray]  # ids, first characters, one past the last characters


@dataclass(frozen=True)
class EncodedChunk:
    """A chunk as it comes back from a worker process.

    Attributes:
        columns: values of each column but the labels, as `SplitWriter.append` takes them.
        labels: label column -> names, how often each occurs (of tags: at a word), and for each value of the column
            the index of its name, -1 for none.
        ends: bool [rows], the row is the last of its document.
        text_bytes: bytes of the first text field.
        empty: rows whose first text is blank.
        left_out: why each row was that is left out.
        skipped: lines of a CoNLL file that are left out, by their kind.
    """

    columns: dict[str, Any]
    labels: dict[str, tuple[list[str], np.ndarray, np.ndarray]]
    ends: np.ndarray
    text_bytes: int
    empty: int
    left_out: list[str]
    skipped: dict[str, int]


def columns_of(layout: Layout, token_dtype: str) -> dict[str, Column]:
    """The columns that files of this layout become, but `document`.

    Raises:
        DataError: two would have the same name.
    """
    tokens, characters = Column("ragged", token_dtype), Column("ragged", "uint8")
    aligned, row = Column("aligned", "int32", of="tokens"), Column("row", "int32")
    columns = [("tokens", tokens), *((name, tokens) for name in layout.text[1:])]
    if layout.form == "tags":
        columns += [("word", aligned), *([(layout.tags, aligned)] if layout.tags else [])]
    if layout.form == "answers":
        columns += [("starts", aligned), ("ends", aligned), ("text", characters)]
    if layout.has_answers:
        columns += [("answers", characters), ("answer", Column("row", "int32", width=2))]
    columns += [(name, row) for name in layout.label]
    columns += [(name, characters) for name in layout.lists]
    columns += [(name, Column("row", "float32")) for name in layout.number]
    names = [_DOCUMENT, *(name for name, _ in columns)]
    for name in names:
        if names.count(name) > 1:
            raise DataError(
                f"two columns would be named {name!r}",
                where=layout.name,
                expected=f"different names, not {' or '.join(names[:2])}",
                fix="rename the field",
            )
    return dict(columns)


def encode_chunk(chunk: Chunk, vocabulary: Vocabulary) -> EncodedChunk:
    """Parses and encodes one chunk; a pure function, so chunks can be encoded anywhere."""
    parsed, layout = parse(chunk), chunk.layout
    columns: dict[str, Any] = {}
    labels = {}
    for name, column in zip(layout.label, parsed.labels, strict=True):
        names, index = _indexed(column)
        labels[name] = names, np.bincount(index, minlength=len(names)), index
    if layout.form == "tags":
        columns["tokens"], columns["word"], word_of_token = _encode_sentences(parsed, vocabulary)
        if layout.tags:
            names, index = _indexed([tag for _, tags in parsed.sentences for tag in tags])
            labels[layout.tags] = names, np.bincount(index, minlength=len(names)), np.append(index, -1)[word_of_token]
    elif layout.form == "answers":
        columns |= _encode_contexts(parsed, vocabulary)
    else:
        columns["tokens"] = _encode_texts(parsed.texts[0], parsed.ends, vocabulary)
    for name, rows in zip(layout.text[1:], parsed.texts[1:], strict=True):
        columns[name] = _encode_texts(rows, np.ones(len(rows), bool), vocabulary)
    for name, lists in zip(layout.lists, parsed.lists, strict=True):
        columns[name] = _characters(lists)
    for name, numbers in zip(layout.number, parsed.numbers, strict=True):
        columns[name] = np.array(numbers, np.float32)
    texts = parsed.texts[0]
    empty = sum(not text.strip() for text in texts)
    return EncodedChunk(columns, labels, parsed.ends, sum(map(len, texts)), empty, parsed.left_out, parsed.skipped)


def _indexed(values: Sequence[str]) -> tuple[list[str], np.ndarray]:
    """(different names in order of appearance, index of each value's name)."""
    index = {name: at for at, name in enumerate(dict.fromkeys(values))}
    return list(index), np.array([index[value] for value in values], np.int64)


def _encode_texts(rows: list[bytes], ends: np.ndarray, vocabulary: Vocabulary) -> Ragged:
    """(flat ids with `</s>` after the rows of `ends`, row lengths)."""
    flat, lengths = vocabulary.encode_flat(rows)
    values = np.insert(flat.astype(vocabulary.token_dtype), np.cumsum(lengths)[ends], vocabulary.eos)
    return values, lengths + ends


def _encode_sentences(parsed: Parsed, vocabulary: Vocabulary) -> tuple[Ragged, np.ndarray, np.ndarray]:
    """(tokens; number of the word of each token in its row; the same in the whole chunk; -1 at `</s>`)."""
    encoded = vocabulary.encode_words([words for words, _ in parsed.sentences])
    ids, word = (_flat([part[at] for part in encoded]) for at in (0, 1))
    lengths = _lengths(part for part, _ in encoded)
    num_words = _lengths(words for words, _ in parsed.sentences)
    stops = np.cumsum(lengths)
    in_chunk = word + np.repeat(np.cumsum(num_words) - num_words, lengths)
    tokens = np.insert(ids.astype(vocabulary.token_dtype), stops, vocabulary.eos)
    return (tokens, lengths + 1), np.insert(word, stops, -1), np.insert(in_chunk, stops, -1)


def _encode_contexts(parsed: Parsed, vocabulary: Vocabulary) -> dict[str, Any]:
    """The columns of contexts, with offsets in characters, and of their answers."""
    contexts = parsed.texts[0]
    encoded = _with_offsets(contexts, vocabulary)
    ids, starts, ends = (_flat([part[at] for part in encoded]) for at in (0, 1, 2))
    lengths = _lengths(part for part, _, _ in encoded)
    stops = np.cumsum(lengths)
    columns: dict[str, Any] = {
        "tokens": (np.insert(ids.astype(vocabulary.token_dtype), stops, vocabulary.eos), lengths + 1),
        "starts": np.insert(starts, stops, 0),
        "ends": np.insert(ends, stops, 0),
        "text": _characters(contexts),
    }
    if parsed.answers or not contexts:
        columns["answers"] = _characters(["\n".join(text for text, _ in row).encode() for row in parsed.answers])
        spans = [
            _tokens_over(starts, ends, row[0][1], row[0][1] + len(row[0][0]))
            for (_, starts, ends), row in zip(encoded, parsed.answers, strict=True)
        ]
        columns["answer"] = np.array(spans, np.int32).reshape(-1, 2)
    return columns


def _with_offsets(contexts: list[bytes], vocabulary: Vocabulary) -> list[Spans]:
    """Encodes each different context once, a few at a time, since offsets take much memory while they are made."""
    different = list(dict.fromkeys(contexts))
    spans: dict[bytes, Spans] = {}
    for at in range(0, len(different), _CONTEXTS_AT_ONCE):
        some = different[at : at + _CONTEXTS_AT_ONCE]
        found = vocabulary.encode_with_offsets([context.decode() for context in some])
        spans.update(zip(some, found, strict=True))
    return [spans[context] for context in contexts]


def _tokens_over(starts: np.ndarray, ends: np.ndarray, start: int, stop: int) -> tuple[int, int]:
    """First and last of the tokens that share a character with [start, stop).

    If the vocabulary has dropped all of them, it is the token that follows, which may be `</s>`.
    """
    first = int(np.searchsorted(ends, start, side="right"))
    return first, max(first, int(np.searchsorted(starts, stop, side="left")) - 1)


def _characters(texts: Sequence[bytes]) -> Ragged:
    return np.frombuffer(b"".join(texts), np.uint8), _lengths(texts)


def _flat(arrays: Sequence[np.ndarray]) -> np.ndarray:
    return np.concatenate([np.zeros(0, np.int32), *arrays])


def _lengths(parts: Any) -> np.ndarray:
    return np.array([len(part) for part in parts], np.int64)
