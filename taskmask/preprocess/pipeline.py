"""Text files to a dataset: sampling for the vocabulary, encoding in parallel processes, bounded memory."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np

from taskmask.data.dataset import Column
from taskmask.data.rng import hash_integers
from taskmask.data.writer import DatasetWriter, SplitWriter
from taskmask.errors import DataError
from taskmask.preprocess.encode import EncodedChunk, columns_of, encode_chunk
from taskmask.preprocess.label_names import OPTION, are_numbers, number_in, plain_name
from taskmask.preprocess.missing import NONE, missing_labels, splits_without_numbers
from taskmask.preprocess.parse import parse
from taskmask.preprocess.readers import CHUNK, Chunk, Source, total_bytes
from taskmask.system.hardware import check_semaphores
from taskmask.tokenizer.tokenizer import Vocabulary, cut_text

MOST_LABELS = 1 << 16
_SAMPLED_PART = 4000  # bytes; longer texts are sampled in parts


@dataclass
class SplitSummary:
    """What was written of one split.

    Attributes:
        rows: stored rows.
        documents: documents.
        tokens: stored tokens of the first text field, `</s>` included.
        text_bytes: bytes of its text.
        labels: label column -> rows (of tags: words) of each label name.
        unlabelled: column -> mark -> rows (of tags: words) without a label, number or list; the mark is "" if the
            field is empty or null.
        numbers: number column -> the smallest and the largest; not there if no row has one.
        empty: rows whose first text is blank.
        left_out: rows left out for a bad answer.
        first_left_out: what was wrong with the first of them.
        skipped: lines of CoNLL files that are left out, by their kind.
    """

    rows: int = 0
    documents: int = 0
    tokens: int = 0
    text_bytes: int = 0
    labels: dict[str, dict[str, int]] = field(default_factory=dict)
    unlabelled: dict[str, dict[str, int]] = field(default_factory=dict)
    numbers: dict[str, tuple[float, float]] = field(default_factory=dict)
    empty: int = 0
    left_out: int = 0
    first_left_out: str = ""
    skipped: Counter[str] = field(default_factory=Counter)

    def add(self, encoded: EncodedChunk) -> None:
        """Counts a chunk."""
        self.rows += len(encoded.ends)
        self.documents += int(encoded.ends.sum())
        self.tokens += len(encoded.columns["tokens"][0])
        self.text_bytes += encoded.text_bytes
        self.empty += encoded.empty
        self.left_out += len(encoded.left_out)
        self.first_left_out = self.first_left_out or next(iter(encoded.left_out), "")
        self.skipped.update(encoded.skipped)


def sample_texts(sources: Sequence[Source], budget: int) -> list[bytes]:
    """A sample of all texts of the sources, those of lists too, in one pass.

    A text is kept when the hash of its number is under a threshold, which falls when the sample outgrows the budget, so
    every text has the same chance and the same files give the same sample.

    Args:
        sources: the files.
        budget: bytes of text to keep at most.
    """
    kept: list[tuple[int, bytes]] = []
    size = number = 0
    threshold = 1 << 64
    with progress("sample", total_bytes(sources)) as report:
        for chunk in _chunks(sources, report):
            parsed = parse(chunk)
            lists = [[text for row in rows for text in row.split(b"\n")] for rows in parsed.lists]
            texts = [
                part for texts in (*parsed.texts, *lists) for text in texts for part in cut_text(text, _SAMPLED_PART)
            ]
            hashes = hash_integers(np.arange(number, number + len(texts)))
            number += len(texts)
            chosen = np.flatnonzero(hashes < threshold) if threshold < 1 << 64 else range(len(texts))
            kept += [(int(hashes[at]), texts[at]) for at in chosen]
            size += sum(len(texts[at]) for at in chosen)
            while size > budget:
                threshold = threshold * 7 // 8
                kept = [(value, text) for value, text in kept if value < threshold]
                size = sum(len(text) for _, text in kept)
    return [text for _, text in kept]


def encode_files(
    sources: dict[str, list[Source]],
    vocabulary: Vocabulary,
    out: str | Path,
    workers: int = 1,
    overwrite: bool = False,
    label_names: Mapping[str, Sequence[str]] | None = None,
) -> dict[str, SplitSummary]:
    """Encodes all files and writes the dataset; the result does not depend on the number of workers.

    The first text field becomes the column `tokens`, further text fields ragged columns of their own names, lists of
    texts ragged columns of UTF-8 (separated by line feeds), label fields int32 row columns, number fields float32
    ones. The last row of every document (in further fields every row)
    is closed by `</s>`. Tagged sentences become `tokens` and, aligned to them, `word` (the number of each token's word
    in its row) and their tags, both -1 at `</s>`. Questions become `tokens` (the context) and, aligned, `starts` and
    `ends` (in characters of the context, 0 at `</s>`), `question`, `text` (the context as UTF-8), `answers` (as UTF-8,
    separated by line feeds) and `answer` (first and last token of the first answer).

    What has no label gets -1, what has no number NaN, and what has no list an empty one. Which names say that there is
    no label, and are no class, is found out from all splits together (`taskmask.preprocess.missing`).

    Args:
        sources: split -> its files, of `find_sources`.
        vocabulary: to encode with.
        out: folder of the dataset.
        workers: processes that encode; 0 or 1: this one.
        overwrite: replace an existing dataset.
        label_names: label column -> names of its labels, if the files hold their numbers.

    Returns:
        split -> what was written.

    Raises:
        DataError: bad text, with file and line; a label without a name; a split without a row; a worker process that
            died.
    """
    everything = [source for files in sources.values() for source in files]
    total = total_bytes(everything)
    label_ids: dict[str, dict[str, int]] = {}
    with (
        DatasetWriter(out, vocabulary, overwrite) as writer,
        progress("encode", total) as report,
        _Encoder(vocabulary, min(workers, 1 + total // CHUNK)) as encoder,
    ):
        written = {
            split: _write_split(writer, encoder, split, files, vocabulary, label_ids, report)
            for split, files in sources.items()
        }
        for name, ids in label_ids.items():
            writer.labels[name] = _settle_labels(name, ids, written, sources, (label_names or {}).get(name))
        for name in {name: None for _, summary, _ in written.values() for name in summary.numbers}:
            _settle_numbers(name, written, sources)
    return {split: summary for split, (_, summary, _) in written.items()}


Written = tuple[SplitWriter, SplitSummary, dict[str, np.ndarray]]


def _settle_labels(
    name: str,
    ids: dict[str, int],
    written: dict[str, Written],
    files_of: dict[str, list[Source]],
    given: Sequence[str] | None,
) -> list[str]:
    """Decides which names of a column are labels, and writes their final numbers; returns them in order."""
    having = {split: found for split, found in written.items() if name in found[2]}
    layout = files_of[next(iter(having))][0].layout
    numeric = are_numbers(ids)
    plain = [plain_name(one, numeric) for one in ids]
    times: dict[str, Counter[str]] = {split: Counter() for split in having}
    for split, (_, _, counts) in having.items():
        for one, number in zip(plain, counts[name].tolist(), strict=False):
            times[split][one] += number
    asked = None if layout.missing is None else {plain_name(mark, numeric) for mark in layout.missing}
    missing = missing_labels(times, asked, of_words=name == layout.tags, are_numbers=given is not None)
    found = [label for label in dict.fromkeys(plain) if label not in missing]
    labels = sorted(found, key=_label_order) if given is None else list(given)
    if given is None:
        final = {label: number for number, label in enumerate(labels)}
    else:
        final = {label: number_in(label, given, f"{OPTION}, field {name!r}") for label in found}
    table = np.array([*(final.get(one, -1) for one in plain), -1], np.int32)  # -1, no label, stays what it is
    for split, (split_writer, summary, counts) in having.items():
        split_writer.rewrite(name, lambda values: table[values])
        of_label = np.zeros(len(labels) + 1, np.int64)
        np.add.at(of_label, table[:-1], counts[name][: len(ids)])
        summary.labels[name] = dict(zip(labels, of_label.tolist(), strict=False))
        summary.unlabelled[name] = {mark: times[split][mark] for mark in sorted(missing) if times[split][mark]}
    return labels


def _settle_numbers(name: str, written: dict[str, Written], files_of: dict[str, list[Source]]) -> None:
    """Takes the numbers out of splits of which each is -1, if that means that there is none."""
    ranges = {split: summary.numbers[name] for split, (_, summary, _) in written.items() if name in summary.numbers}
    for split in splits_without_numbers(ranges, files_of[next(iter(ranges))][0].layout.missing):
        split_writer, summary, _ = written[split]
        split_writer.rewrite(name, lambda values: np.full_like(values, np.nan))
        empty = summary.unlabelled.get(name, {}).get(NONE, 0)
        summary.unlabelled.setdefault(name, {})["-1"] = summary.rows - empty
        del summary.numbers[name]


def _write_split(
    writer: DatasetWriter,
    encoder: _Encoder,
    split: str,
    files: list[Source],
    vocabulary: Vocabulary,
    label_ids: dict[str, dict[str, int]],
    report: Any,
) -> Written:
    """Encodes the files of one split; labels get ids in order of appearance, as provisional values."""
    layout = files[0].layout
    columns = columns_of(layout, vocabulary.token_dtype)
    has_lines = any(file.layout.documents == "blank" for file in files)
    columns |= {"document": Column("row", "uint32")} if has_lines else {}
    split_writer = writer.split(split, columns)
    summary = SplitSummary()
    counts = {name: np.zeros(MOST_LABELS, np.int64) for name in layout.label_columns}
    for encoded in encoder.encode(_chunks(files, report)):
        rows = dict(encoded.columns)
        for name, (names, times, index) in encoded.labels.items():
            ids = _label_ids(name, names, label_ids.setdefault(name, {}))
            rows[name] = np.append(ids, np.int32(-1))[index]
            counts[name][ids] += times
        if has_lines:
            rows["document"] = summary.documents + np.cumsum(encoded.ends) - encoded.ends
        split_writer.append(rows)
        summary.add(encoded)
        for name in layout.number:
            seen = rows[name][~np.isnan(rows[name])]
            _count_missing(summary, name, len(rows[name]) - len(seen))
            if len(seen):
                low, high = summary.numbers.get(name, (np.inf, -np.inf))
                summary.numbers[name] = (min(low, float(seen.min())), max(high, float(seen.max())))
        for name in layout.lists:
            _count_missing(summary, name, int((rows[name][1] == 0).sum()))
    if not summary.rows:
        raise DataError(
            f"split {split!r} has no rows",
            where=", ".join(file.layout.name for file in files),
            expected="at least one line with text",
            fix=f"all {summary.left_out} were left out: {summary.first_left_out}" if summary.left_out else "",
        )
    return split_writer, summary, counts


def _count_missing(summary: SplitSummary, column: str, rows: int) -> None:
    if rows:
        marks = summary.unlabelled.setdefault(column, {})
        marks[NONE] = marks.get(NONE, 0) + rows


def _label_ids(column: str, names: list[str], ids: dict[str, int]) -> np.ndarray:
    for name in names:
        ids.setdefault(name, len(ids))
    if len(ids) > MOST_LABELS:
        raise DataError(
            f"field {column!r} has more than {MOST_LABELS} different values",
            expected="labels",
            fix="name the field that holds labels with --label or --tags",
        )
    return np.array([ids[name] for name in names], np.int32)


def _label_order(name: str) -> tuple[int, int, str]:
    """Whole numbers first and by value, then names by code point."""
    is_number = name.removeprefix("-").isascii() and name.removeprefix("-").isdigit() and len(name) < 19
    return (0, int(name), name) if is_number else (1, 0, name)


class _Encoder:
    """Encodes chunks in order, in this process or in several, with a bounded number of chunks in flight."""

    def __init__(self, vocabulary: Vocabulary, workers: int):
        self.vocabulary, self.workers = vocabulary, workers
        self._pool: ProcessPoolExecutor | None = None

    def __enter__(self) -> _Encoder:
        if self.workers > 1:
            check_semaphores(2, "--workers 1")  # one queue to the workers and one back
            self._pool = ProcessPoolExecutor(
                self.workers, get_context("fork"), _start_worker, (self.vocabulary.model_bytes, os.getpid())
            )
        return self

    def __exit__(self, *error: Any) -> None:
        if self._pool:
            self._pool.shutdown(wait=True, cancel_futures=True)

    def encode(self, chunks: Iterable[Chunk]) -> Iterator[EncodedChunk]:
        """The encoded chunks, in order."""
        if not self._pool:
            yield from (encode_chunk(chunk, self.vocabulary) for chunk in chunks)
            return
        waiting: deque[Future[EncodedChunk]] = deque()
        try:
            for chunk in chunks:
                waiting.append(self._pool.submit(_work, chunk))
                if len(waiting) > 2 * self.workers:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        except BrokenProcessPool as error:
            raise DataError(
                "a worker process was killed, perhaps for want of memory",
                where="--workers",
                fix="give fewer --workers; nothing was written",
            ) from error


_worker_vocabulary: Vocabulary  # set once in each worker process


def _start_worker(model_bytes: bytes, parent: int) -> None:
    """Makes a worker ready: it leaves Ctrl-C to its parent, and ends when its parent is killed."""
    global _worker_vocabulary
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
    _worker_vocabulary = Vocabulary(model_bytes)
    _worker_vocabulary.num_threads = 1


def _work(chunk: Chunk) -> EncodedChunk:
    return encode_chunk(chunk, _worker_vocabulary)


def progress(what: str, total: int) -> Any:
    """A progress bar in bytes on stderr, silent unless that is a terminal."""
    from tqdm import tqdm

    return tqdm(total=total, unit="B", unit_scale=True, desc=what, disable=None, leave=False)


def _chunks(sources: Iterable[Source], report: Any) -> Iterator[Chunk]:
    for source in sources:
        position = 0
        for chunk in source.chunks():
            yield chunk
            report.update(chunk.bytes_read - position)
            position = chunk.bytes_read
