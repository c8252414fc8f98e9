"""Which values a stored column may hold. Damage, or a stranger, can put any number into a flat file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn, Protocol

import numpy as np

from taskmask.errors import DataError

AT_ONCE = 1 << 22
CHECKED_AT_ONCE = 1 << 28  # bytes; what is larger is compared with its checksum by `taskmask list --verify` alone
LARGEST = float(np.finfo(np.float32).max)
ANSWER, DOCUMENT, WORD = "answer", "document", "word"
STARTS, ENDS, TEXT = "starts", "ends", "text"  # the characters of tokens in the text of their row
FIX = "check the dataset with taskmask list --data DIR --verify, and copy it again"


class _Split(Protocol):
    """What the checks read of a `taskmask.data.dataset.Split`."""

    name: str
    folder: Path
    rows: int
    vocab_size: int
    columns: dict[str, Any]

    @property
    def num_labels(self) -> Mapping[str, int]: ...

    @property
    def num_tokens(self) -> int: ...

    def offsets(self, name: str) -> np.ndarray: ...

    def values(self, name: str) -> np.ndarray: ...

    def tokens(self, start: int, stop: int) -> np.ndarray: ...


def check_values(split: _Split, name: str, values: np.ndarray) -> None:
    """Raises a DataError if a column holds a value that none of its kind has; one pass, bounded memory.

    Args:
        split: the split.
        name: of the column.
        values: the flat column. Very many tokens are left to `_Split.tokens`, and to `Source`.
    """
    column = split.columns[name]
    if name == "tokens":
        if values.nbytes <= CHECKED_AT_ONCE:
            check_tokens(split, values, 0)
        return
    if column.kind == "ragged" and column.dtype == "uint8":
        _check_texts(split, name, values)
    elif column.kind == "ragged" and column.dtype.startswith("uint"):
        _check_range(split, name, values, 0, split.vocab_size - 1)
    elif name in split.num_labels and column.dtype.startswith("int"):
        _check_range(split, name, values, -1, split.num_labels[name] - 1)
    elif name == ANSWER and column.width == 2:
        _check_answers(split, values.reshape(-1, 2))
    elif name in (STARTS, ENDS) and column.kind == "aligned" and TEXT in split.columns:
        longest = int(np.diff(split.offsets(TEXT)).max(initial=0))  # in bytes, and so at least in characters
        _check_range(split, name, values, 0, longest)
    elif name == DOCUMENT:
        _check_range(split, name, values, 0, max(split.rows - 1, 0))
    elif name == WORD and column.kind == "aligned":
        _check_range(split, name, values, -1, max(len(values) - 1, 0))


def check_all_values(split: _Split) -> None:
    """Checks all columns of a split and all of its tokens; see `check_values`."""
    for name, column in split.columns.items():
        if column.kind == "ragged":
            split.offsets(name)
        split.values(name)
    for start in range(0, split.num_tokens, AT_ONCE):
        split.tokens(start, start + AT_ONCE)


def check_numbers(
    split: _Split, name: str, least: float = -LARGEST, most: float = LARGEST, labels: np.ndarray | None = None
) -> None:
    """Raises a DataError if a column of floats has a number outside of a range; one pass, bounded memory.

    Infinite numbers mean something to a masker that compares them, but a loss cannot learn them. So who learns asks.

    Args:
        split: the split.
        name: of the column.
        least: the smallest number.
        most: the largest.
        labels: of each row or token; NaN, which says that there is none, is refused if the label is 0 or more.
            None: NaN is fine.
    """
    values, expected = split.values(name).reshape(-1), f"{least:.4g} to {most:.4g}"
    for start in range(0, len(values), AT_ONCE):
        chunk = values[start : start + AT_ONCE].astype(np.float64)
        wrong = (chunk < least) | (chunk > most)
        if labels is not None:
            of_values = np.arange(start, start + len(chunk)) // split.columns[name].width
            wrong |= np.isnan(chunk) & (labels[of_values] >= 0)
        if wrong.any():
            place = int(wrong.argmax())
            _blame(split, name, start + place, f"the value is {chunk[place]}", expected)


def check_tokens(split: _Split, tokens: np.ndarray, start: int) -> None:
    """Raises a DataError if one of these tokens, the first of which is number `start`, is not in the vocabulary."""
    if len(tokens) and split.vocab_size and tokens.max() >= split.vocab_size:
        place = int((tokens >= split.vocab_size).argmax())
        what = f"token id {tokens[place]} is not in the vocabulary"
        _blame(split, "tokens", start + place, what, f"0 to {split.vocab_size - 1}")


def check_offsets(offsets: np.ndarray, num_values: int, where: str) -> None:
    """Raises a DataError unless the offsets of rows rise from 0 to the number of values; bounded memory."""
    starts = range(0, len(offsets) - 1, AT_ONCE)
    falls = any((np.diff(offsets[start : start + AT_ONCE + 1]) < 0).any() for start in starts)
    if offsets[0] != 0 or offsets[-1] != num_values or falls:
        what = "the offsets do not rise from 0 to the number of values"
        raise DataError(what, where=where, expected=f"0 to {num_values}", fix=FIX)


def _check_range(split: _Split, name: str, values: np.ndarray, least: int, most: int) -> None:
    for start in range(0, len(values), AT_ONCE):
        chunk = values[start : start + AT_ONCE]
        if chunk.min() < least or chunk.max() > most:
            place = int(((chunk < least) | (chunk > most)).argmax())
            _blame(split, name, start + place, f"the value is {chunk[place]}", f"{least} to {most}")


def _check_texts(split: _Split, name: str, values: np.ndarray) -> None:
    """Texts are UTF-8 on their own, so the column is, and no row begins inside of a character."""
    offsets = split.offsets(name)
    starts = np.asarray(offsets[:-1])[np.diff(offsets) > 0]
    torn = np.flatnonzero((values[starts] & 0xC0) == 0x80)
    if len(torn):
        _blame(split, name, int(starts[torn[0]]), "a text begins inside of a character", "UTF-8")
    begin = 0
    while begin < len(values):  # up to the end of a row
        end = int(offsets[max(int(np.searchsorted(offsets, begin + AT_ONCE)), 1) - 1])
        end = end if end > begin else int(offsets[np.searchsorted(offsets, begin, side="right")])
        try:
            values[begin:end].tobytes().decode()
        except UnicodeDecodeError as error:
            _blame(split, name, begin + error.start, f"the text is damaged ({error.reason})", "UTF-8")
        begin = end


def _check_answers(split: _Split, answers: np.ndarray) -> None:
    """Answers are (-1, -1), or the first and the last token of a span of their row."""
    sizes = np.diff(split.offsets("tokens"))
    first, last = answers[:, 0], answers[:, 1]
    wrong = (first < -1) | (last < first) | (last >= sizes) | ((first < 0) != (last < 0))
    if wrong.any():
        row = int(wrong.argmax())
        what = f"the answer is tokens {first[row]} to {last[row]}"
        _blame(split, ANSWER, 2 * row, what, f"tokens of the row's {sizes[row]}, or -1 and -1")


def _blame(split: _Split, name: str, place: int, what: str, expected: str) -> NoReturn:
    """Raises the error of the value at a place of the flat column."""
    column = split.columns[name]
    if column.kind == "row":
        row = place // column.width
    else:
        row = int(np.searchsorted(split.offsets(name), place, side="right")) - 1
    where = f"{split.folder / column.files['values'].path}, row {row} of split {split.name}"
    raise DataError(f"column {name}: {what}", where=where, expected=expected, fix=FIX)
