"""Chunks of lines to texts, labels, numbers, tagged words and answers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from taskmask.preprocess.conll import sentences_of
from taskmask.preprocess.fields import check_fields, is_blank, label_of, list_of, number_of, record_of, text_of
from taskmask.preprocess.missing import missing_numbers
from taskmask.preprocess.squad import PLACE, Answers, BadAnswer, answers_of, check_no_answers
from taskmask.preprocess.tables import rows_of
from taskmask.preprocess.tagged import Sentence, sentence_of
from taskmask.preprocess.utf8 import decode
from taskmask.tokenizer.text import TO_SPACE_BUT_LINE_FEED

if TYPE_CHECKING:
    from taskmask.preprocess.readers import Chunk


@dataclass(frozen=True)
class Parsed:
    """The rows of a chunk.

    Attributes:
        texts: a list of UTF-8 texts per text field, one a row; of tagged sentences their words, separated by spaces.
        ends: bool [rows], the row is the last of its document.
        labels: a list of names per label field, one per row; empty names if there is no label.
        numbers: a list of numbers per number field, one per row; NaN if there is none.
        lists: a list of UTF-8 texts per list field, one per row: the texts of its list, a line each.
        sentences: words and tags of each row, for form "tags".
        answers: the answers of each row, for form "answers"; none without answers.
        left_out: why each row was that is left out.
        skipped: lines of a CoNLL file that are left out, by their kind.
    """

    texts: tuple[list[bytes], ...]
    ends: np.ndarray
    labels: tuple[list[str], ...] = ()
    numbers: tuple[list[float], ...] = ()
    lists: tuple[list[bytes], ...] = ()
    sentences: list[Sentence] = field(default_factory=list)
    answers: list[Answers] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)
    skipped: dict[str, int] = field(default_factory=dict)


def parse(chunk: Chunk) -> Parsed:
    """Parses the lines of a chunk.

    Raises:
        DataError: with file and line: text that is not UTF-8, missing fields, lines of another form.
    """
    layout = chunk.layout
    text = chunk.text
    if b"\r" in text:  # quicker to look for than both
        text = text.replace(b"\r\n", b"\n")
    decode(text, layout.name, chunk.first_line)
    if layout.format == "txt":
        return _parse_txt(text, chunk)
    if layout.columns:
        return _parse_table(text, chunk)
    if layout.conll:
        sentences, skipped = sentences_of(text, layout.conll, layout.name, chunk.first_line)
        return Parsed((_joined(sentences),), np.ones(len(sentences), bool), sentences=sentences, skipped=skipped)
    return _parse_records(text, chunk)


def _joined(sentences: list[Sentence]) -> list[bytes]:
    return [" ".join(words).encode() for words, _ in sentences]


def _parse_txt(text: bytes, chunk: Chunk) -> Parsed:
    lines = text.removesuffix(b"\n").translate(TO_SPACE_BUT_LINE_FEED).split(b"\n")
    rows = [line for line in lines if line.strip()]
    if chunk.layout.documents == "line":
        return Parsed((rows,), np.ones(len(rows), bool))
    is_text = np.array([bool(line.strip()) for line in lines])
    followed_by_blank = np.append(~is_text[1:], chunk.ends_document)
    return Parsed((rows,), followed_by_blank[is_text])


def _parse_table(text: bytes, chunk: Chunk) -> Parsed:
    layout = chunk.layout
    picked = [layout.columns.index(name) for name in layout.fields]
    first_label = len(layout.text)
    first_number = first_label + len(layout.label)
    missing = missing_numbers(layout.missing)
    rows: list[list[Any]] = []
    for number, fields in rows_of(text, layout, chunk.first_line):
        row: list[Any] = [fields[at] for at in picked]
        for at, name in enumerate(layout.number, first_number):
            row[at] = number_of(row[at], f"{layout.name}:{number}", name, missing)
        rows.append(row)
    columns = [[row[at] for row in rows] for at in range(len(picked))]
    labels = [[label.decode() for label in column] for column in columns[first_label:first_number]]
    ends = np.ones(len(rows), bool)
    return Parsed(tuple(columns[:first_label]), ends, tuple(labels), tuple(columns[first_number:]))


def _parse_records(text: bytes, chunk: Chunk) -> Parsed:
    layout = chunk.layout
    texts: list[list[bytes]] = [[] for _ in layout.text]
    labels: list[list[str]] = [[] for _ in layout.label]
    numbers: list[list[float]] = [[] for _ in layout.number]
    lists: list[list[bytes]] = [[] for _ in layout.lists]
    sentences: list[Sentence] = []
    answers: list[Answers] = []
    left_out: list[str] = []
    missing = missing_numbers(layout.missing)
    for record, where in _records(text, chunk):
        try:
            row = [text_of(record[name], where, name) for name in layout.text]
            if layout.has_answers:  # before anything of the row is kept, since a bad answer may leave it out
                answers.append(answers_of(record, row[0].decode(), where))
            elif layout.form == "answers":
                check_no_answers(record, where)
            if layout.form == "tags":
                sentences.append(sentence_of(record, layout.words, layout.tags, where))
            for column, value in zip(texts, row, strict=True):
                column.append(value)
            for names, name in zip(labels, layout.label, strict=True):
                names.append(label_of(record[name], where, name))
            for values, name in zip(numbers, layout.number, strict=True):
                values.append(number_of(record[name], where, name, missing))
            for rows_of_texts, name in zip(lists, layout.lists, strict=True):
                rows_of_texts.append(list_of(record[name], where, name))
        except KeyError:
            check_fields(layout.fields, list(record), where)
            raise
        except BadAnswer as error:
            if layout.on_bad_answer == "stop":
                raise
            left_out.append(str(error))
    if layout.form == "tags":
        texts = [_joined(sentences)]
    ends = np.ones(len(texts[0]), bool)
    return Parsed(tuple(texts), ends, tuple(labels), tuple(numbers), tuple(lists), sentences, answers, left_out)


def _records(text: bytes, chunk: Chunk) -> Iterator[tuple[dict[str, Any], str]]:
    """The records of a jsonl file with their places."""
    layout = chunk.layout
    for number, line in enumerate(text.split(b"\n"), chunk.first_line):
        if not is_blank(line):
            record = record_of(line, f"{layout.name}:{number}")
            yield record, f"{layout.name}, {record[PLACE]}" if layout.format == "squad" else f"{layout.name}:{number}"
