"""The spans of an outside tagger: a jsonl file with a line for each stored row."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from taskmask.data.blocks import ends_document
from taskmask.data.dataset import Split
from taskmask.errors import DataError
from taskmask.preprocess.fields import check_fields, is_blank, record_of, shown, text_of
from taskmask.preprocess.utf8 import decode
from taskmask.span_columns.words import stretches
from taskmask.span_columns.write import Spans
from taskmask.tokenizer.tokenizer import Vocabulary

_AT_ONCE = 64  # rows, since offsets take much memory while they are made
SET_ASIDE: dict[str, tuple[str | bool, ...]] = {
    "answer": ("reject", "ignore"),  # Prodigy, of a line or of a span
    "status": ("discarded", "rejected", "ignored", "skipped", "cancelled"),  # Argilla and others
    "was_cancelled": (True,),  # Label Studio
    "rejected": (True,),
    "discarded": (True,),
    "ignored": (True,),
    "skipped": (True,),
}
"""How annotation tools mark what an annotator has rejected, or has not judged: key, and its values in small letters."""
_FIX = "give one line for each stored row, in their order, with the text that was preprocessed"


@dataclass
class SpanFile:
    """Reads `{"text": ..., "spans": [[start, end], ...]}`, with offsets in characters, `end` one past the last.

    A span may also be `{"start": .., "end": .., "text": ..}`, whose text, where it is given, must be what stands there.
    Of spans that overlap the longest counts. A span covers every token that shares a character with it. Lines and spans
    that are marked as in `SET_ASIDE` are left out; such a line stands for a row without spans.

    Args:
        path: the file; blank lines count for nothing.
        vocab: of the dataset.

    Attributes:
        overlaps: spans that were left out since they overlap a longer one.
        lost: spans that cover no token.
        lines_aside: lines that are set aside, by their mark, such as "answer reject".
        spans_aside: spans that are set aside, by that of their own or of their line.
    """

    path: Path
    vocab: Vocabulary
    overlaps: int = 0
    lost: int = 0
    lines_aside: Counter[str] = field(default_factory=Counter)
    spans_aside: Counter[str] = field(default_factory=Counter)

    def spans(self, split: Split) -> Iterator[Spans]:
        """Yields the spans of all rows of a split.

        Raises:
            DataError: a line is damaged, is not the text of its row, or there are more or fewer lines than rows.
        """
        is_last = ends_document(split.rows, split.values("document") if "document" in split.columns else None)
        try:
            file = open(self.path, "rb")  # noqa: SIM115  closed below
        except OSError as error:
            raise DataError(f"cannot be read: {error.strerror}", where=str(self.path)) from error
        with contextlib.closing(file):
            lines = self._lines(file)
            for stretch in stretches(split):
                firsts: list[int] = []
                stops: list[int] = []
                num = len(stretch.offsets) - 1
                for at in range(0, num, _AT_ONCE):
                    rows = range(at, min(at + _AT_ONCE, num))
                    texts, listed, places = self._read(lines, rows, stretch.first_row, split)
                    encoded = self.vocab.encode_with_offsets(texts)
                    for row, spans, place, (ids, starts, ends) in zip(rows, listed, places, encoded, strict=True):
                        begin, end = stretch.offsets[row : row + 2].tolist()
                        stored = stretch.tokens[begin : end - is_last[stretch.first_row + row]]
                        self._check(ids, stored, place, split, stretch.first_row + row)
                        for first, stop in self._tokens(spans, starts, ends):
                            firsts.append(begin + first)
                            stops.append(begin + stop)
                yield stretch, np.array(firsts, np.int64), np.array(stops, np.int64)
            if (left := next(lines, None)) is not None:
                what = f"is a line more than split {split.name!r} has rows"
                raise DataError(what, where=left[1], expected=f"{split.rows:,} lines", fix=_FIX)

    def _lines(self, file: BinaryIO) -> Iterator[tuple[bytes, str]]:
        for number, line in enumerate(file, 1):
            if not is_blank(line):
                decode(line, str(self.path), number)
                yield line, f"{self.path}:{number}"

    def _read(
        self, lines: Iterator[tuple[bytes, str]], rows: range, first_row: int, split: Split
    ) -> tuple[list[str], list[list[tuple[int, int]]], list[str]]:
        """Returns the texts, the spans and the places of the next rows."""
        texts, listed, places = [], [], []
        for row in rows:
            line, where = next(lines, (b"", ""))
            if not where:
                what = f"ends after {first_row + row:,} lines"
                expected = f"{split.rows:,}, one for each row of split {split.name!r}"
                raise DataError(what, where=str(self.path), expected=expected, fix=_FIX)
            record = record_of(line, where)
            mark = mark_of(record)
            check_fields(("text",) if mark else ("text", "spans"), list(record), where)
            texts.append(text_of(record["text"], where, "text").decode())
            spans = spans_in(self._kept(record.get("spans"), mark), record["text"], where)
            listed.append(self._without_overlaps(spans))
            places.append(where)
        return texts, listed, places

    def _kept(self, spans: Any, mark: str) -> Any:
        """Returns the spans of a record but for those that are set aside, with their line or alone; counts both."""
        self.lines_aside.update([mark] if mark else [])
        if not isinstance(spans, list):
            return [] if mark else spans
        marks = [mark or mark_of(one) for one in spans]
        self.spans_aside.update(filter(None, marks))
        return [one for one, own in zip(spans, marks, strict=True) if not own]

    def _without_overlaps(self, spans: list[tuple[int, int]]) -> list[tuple[int, int]]:
        kept: list[tuple[int, int]] = []
        for start, end in sorted(spans, key=lambda span: (span[0] - span[1], span[0])):
            if all(end <= other or stop <= start for other, stop in kept):
                kept.append((start, end))
        self.overlaps += len(spans) - len(kept)
        return sorted(kept)

    def _check(self, ids: np.ndarray, stored: np.ndarray, where: str, split: Split, row: int) -> None:
        if np.array_equal(ids, stored):
            return
        both = min(len(ids), len(stored))
        at = int(np.append(ids[:both] != stored[:both], True).argmax())
        here, there = (self.vocab.piece(int(one[at])) if at < len(one) else "its end" for one in (ids, stored))
        what = f"the text is not that of row {row} of split {split.name!r}: token {at} is {here}"
        raise DataError(what, where=where, expected=f"{there}, as the dataset has it", fix=_FIX)

    def _tokens(self, spans: list[tuple[int, int]], starts: np.ndarray, ends: np.ndarray) -> Iterator[tuple[int, int]]:
        """Yields the first token of each span, and one past its last; a token belongs to one span only."""
        done = 0
        for start, end in spans:
            first = max(int(np.searchsorted(ends, start, side="right")), done)
            done = max(int(np.searchsorted(starts, end, side="left")), done)
            if first < done:
                yield first, done
            else:
                self.lost += 1


def mark_of(record: Any) -> str:
    """Returns how a record, or a span, is marked as set aside, such as "answer reject"; "" if it is not."""
    if not isinstance(record, dict):
        return ""
    for key, values in SET_ASIDE.items():
        value = record.get(key)
        small = value.casefold() if isinstance(value, str) else value
        if any(small is one or (isinstance(one, str) and small == one) for one in values):
            return key if small is True else f"{key} {small}"
    return ""


def spans_in(listed: Any, text: str, where: str) -> list[tuple[int, int]]:
    """Returns the spans of a record, checked against its text."""
    if not isinstance(listed, list):
        raise DataError(f"'spans' is {shown(listed)}", where=where, expected="a list such as [[0, 5], [10, 14]]")
    return [_span(one, text, where) for one in listed]


def _span(one: Any, text: str, where: str) -> tuple[int, int]:
    pair: Any = [one.get("start"), one.get("end")] if isinstance(one, dict) else one
    is_pair = isinstance(pair, list) and len(pair) == 2 and all(type(place) is int for place in pair)
    if not is_pair or not 0 <= pair[0] < pair[1] <= len(text):
        expected = f"[start, end] or an object with both, 0 <= start < end <= {len(text)}, the length of the text"
        raise DataError(f"the span {shown(one)} is none", where=where, expected=expected)
    there = text[pair[0] : pair[1]]
    if isinstance(one, dict) and "text" in one and one["text"] != there:
        expected = f"{shown(one['text'])}, as the span says"
        fix = "count characters (code points), not bytes or UTF-16"
        raise DataError(f"{shown(there)} stands at {pair[0]} to {pair[1]}", where=where, expected=expected, fix=fix)
    return pair[0], pair[1]
