"""Text files to a dataset: sampling for the vocabulary, encoding in parallel processes, bounded memory."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np

from taskmask.data.columns import Column
from taskmask.data.draws import hash_integers
from taskmask.data.parse import parse
from taskmask.data.readers import CHUNK, Chunk, Source, total_bytes
from taskmask.data.vocab import Vocabulary, cut_text
from taskmask.data.writer import DatasetWriter, SplitWriter
from taskmask.errors import DataError

MOST_LABELS = 1 << 16
_SAMPLED_PART = 4000  # bytes; longer texts are sampled in parts
_RESERVED = ("tokens", "document")


@dataclass
class SplitSummary:
    """What was written of one split.

    Attributes:
        rows: stored rows.
        documents: documents.
        tokens: stored tokens of the first text field, `</s>` included.
        text_bytes: bytes of its text.
        labels: label column -> rows of each label name.
    """

    rows: int = 0
    documents: int = 0
    tokens: int = 0
    text_bytes: int = 0
    labels: dict[str, dict[str, int]] = field(default_factory=dict)


@dataclass(frozen=True)
class EncodedChunk:
    """A chunk as it comes back from a worker process.

    Attributes:
        texts: (flat values, row lengths) per text field.
        labels: (names, index into names [rows]) per label field.
        ends: bool [rows], the row is the last of its document.
        text_bytes: bytes of the first text field.
    """

    texts: list[tuple[np.ndarray, np.ndarray]]
    labels: list[tuple[list[str], np.ndarray]]
    ends: np.ndarray
    text_bytes: int


def sample_texts(sources: Sequence[Source], budget: int) -> list[bytes]:
    """A sample of all text fields of the sources, in one pass.

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
            texts = [part for texts in parse(chunk).texts for text in texts for part in cut_text(text, _SAMPLED_PART)]
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
    sources: dict[str, list[Source]], vocabulary: Vocabulary, out: str | Path, workers: int = 1, overwrite: bool = False
) -> dict[str, SplitSummary]:
    """Encodes all files and writes the dataset; the result does not depend on the number of workers.

    The first text field becomes the column `tokens`, further text fields ragged columns of their own names, label
    fields int32 row columns. The last row of every document (in further fields every row) is closed by `</s>`.

    Args:
        sources: split -> its files, of `find_sources`.
        vocabulary: to encode with.
        out: folder of the dataset.
        workers: processes that encode; 0 or 1: this one.
        overwrite: replace an existing dataset.

    Returns:
        split -> what was written.

    Raises:
        DataError: bad text, with file and line; a split without a row; a worker process that died.
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
            writer.labels[name] = sorted(ids, key=_label_order)
            final = {label: number for number, label in enumerate(writer.labels[name])}
            table = np.array([final[label] for label in ids], np.int32)
            for split, (split_writer, _, counts) in written.items():
                if name in counts:
                    split_writer.rewrite(name, table)
                    of_label = dict(zip(ids, counts[name].tolist(), strict=False))
                    written[split][1].labels[name] = {label: of_label.get(label, 0) for label in writer.labels[name]}
    return {split: summary for split, (_, summary, _) in written.items()}


Written = tuple[SplitWriter, SplitSummary, dict[str, np.ndarray]]


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
    texts = ["tokens", *layout.text[1:]]
    _check_columns(texts, layout.label, layout.name)
    has_lines = any(file.layout.documents == "blank" for file in files)
    columns = {name: Column("ragged", vocabulary.token_dtype) for name in texts}
    columns |= {name: Column("row", "int32") for name in layout.label}
    columns |= {"document": Column("row", "uint32")} if has_lines else {}
    split_writer = writer.split(split, columns)
    summary = SplitSummary()
    counts = {name: np.zeros(MOST_LABELS, np.int64) for name in layout.label}
    for encoded in encoder.encode(_chunks(files, report)):
        rows: dict[str, Any] = dict(zip(texts, encoded.texts, strict=True))
        for name, (names, index) in zip(layout.label, encoded.labels, strict=True):
            rows[name] = _label_ids(name, names, label_ids.setdefault(name, {}))[index]
            counts[name] += np.bincount(rows[name], minlength=MOST_LABELS)
        if has_lines:
            rows["document"] = summary.documents + np.cumsum(encoded.ends) - encoded.ends
        split_writer.append(rows)
        summary.rows += len(encoded.ends)
        summary.documents += int(encoded.ends.sum())
        summary.tokens += len(encoded.texts[0][0])
        summary.text_bytes += encoded.text_bytes
    if not summary.rows:
        raise DataError(
            f"split {split!r} has no rows",
            where=", ".join(file.layout.name for file in files),
            expected="at least one line with text",
        )
    return split_writer, summary, counts


def _check_columns(texts: Sequence[str], labels: Sequence[str], where: str) -> None:
    names = [*texts, *labels]
    for name in names:
        if names.count(name) > 1 or (name in _RESERVED and name != texts[0]) or name == _RESERVED[1]:
            raise DataError(
                f"two columns would be named {name!r}",
                where=where,
                expected=f"different names, not {' or '.join(_RESERVED)}",
                fix="rename the field",
            )


def _label_ids(column: str, names: list[str], ids: dict[str, int]) -> np.ndarray:
    for name in names:
        ids.setdefault(name, len(ids))
    if len(ids) > MOST_LABELS:
        raise DataError(
            f"field {column!r} has more than {MOST_LABELS} different values",
            expected="labels",
            fix="name the field that holds labels with --label",
        )
    return np.array([ids[name] for name in names], np.int32)


def _label_order(name: str) -> tuple[int, int, str]:
    """Whole numbers first and by value, then names by code point."""
    is_number = name.removeprefix("-").isascii() and name.removeprefix("-").isdigit() and len(name) < 19
    return (0, int(name), name) if is_number else (1, 0, name)


def encode_chunk(chunk: Chunk, vocabulary: Vocabulary) -> EncodedChunk:
    """Parses and encodes one chunk; a pure function, so chunks can be encoded anywhere."""
    parsed = parse(chunk)
    every_row = np.ones(len(parsed.ends), bool)
    texts = [_encode_texts(rows, every_row if at else parsed.ends, vocabulary) for at, rows in enumerate(parsed.texts)]
    labels = []
    for column in parsed.labels:
        names = list(dict.fromkeys(column))
        index = {name: at for at, name in enumerate(names)}
        labels.append((names, np.array([index[name] for name in column], np.int64)))
    return EncodedChunk(texts, labels, parsed.ends, sum(map(len, parsed.texts[0])))


def _encode_texts(rows: list[bytes], ends: np.ndarray, vocabulary: Vocabulary) -> tuple[np.ndarray, np.ndarray]:
    """(flat ids with `</s>` after the rows of `ends`, row lengths)."""
    flat, lengths = vocabulary.encode_flat(rows)
    values = np.insert(flat.astype(vocabulary.token_dtype), np.cumsum(lengths)[ends], vocabulary.eos)
    return values, lengths + ends


class _Encoder:
    """Encodes chunks in order, in this process or in several, with a bounded number of chunks in flight."""

    def __init__(self, vocabulary: Vocabulary, workers: int):
        self.vocabulary, self.workers = vocabulary, workers
        self._pool: ProcessPoolExecutor | None = None

    def __enter__(self) -> _Encoder:
        if self.workers > 1:
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
