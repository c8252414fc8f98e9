"""A model over a dataset, writing new columns: how one stage of a system hands what it has learned to the next.

The rows are done in chunks of fixed borders, each kept in a file of its own beside the columns until all are there. So
memory is bounded, a killed run goes on where it stopped, and several processes share the chunks.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import shutil
import time
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from taskmask.checkpoints.saved_settings import without_unchecked
from taskmask.config import Assignment, fields_of, from_tables
from taskmask.config.settings import Settings, parse
from taskmask.data.add_column import ColumnsWriter, check_new
from taskmask.data.batch import Batch
from taskmask.data.dataset import Column, Dataset
from taskmask.data.sequences.base import Source
from taskmask.data.unfinished import note_finished, remove_finished
from taskmask.errors import DataError, storage_errors
from taskmask.inference import loaded_model
from taskmask.inference.annotate_checks import ODDS, check_columns, check_heads, check_label, guard
from taskmask.inference.label_selection import Selection, select, texts_to_test, write_tsv
from taskmask.system.failpoints import reach
from taskmask.system.files import atomic_write, resolve_output
from taskmask.system.folders import refuse_links
from taskmask.tasks.base import Answers
from taskmask.training import distributed
from taskmask.training.auto_precision import for_trained
from taskmask.training.build import DataParts, build_data
from taskmask.training.data_loader import on_device
from taskmask.training.distributed import World
from taskmask.training.precision import autocast
from taskmask.training.run_folder import lock

CHUNK = 1 << 17
"""Tokens in a chunk: what is lost at most when a process is killed."""


@dataclasses.dataclass(frozen=True)
class Annotated:
    """What was written.

    Args:
        columns: {column: what stands in it}.
        rows: rows in all splits.
        tokens: their tokens.
        computed_tokens: tokens that went through the model this time, in all processes; the others were done before.
        seconds: time this call took.
        notes: what people should know of the rows.
    """

    columns: dict[str, str]
    rows: int
    tokens: int
    computed_tokens: int
    seconds: float
    notes: list[str]


def annotate(
    source: str,
    data: str,
    columns: Mapping[str, str],
    splits: Iterable[str] = (),
    overrides: Iterable[Assignment] = (),
    *,
    overwrite: bool = False,
    keep: Selection = Selection(),  # noqa: B008 - frozen
    to_tsv: str = "",
    begin: Callable[[int, int], Callable[[int], Any]] = lambda total, done: lambda tokens: None,
) -> Annotated:
    """Lets a model write columns into a dataset. The same call goes on where a killed one stopped.

    Args:
        source: a run folder (its best checkpoint) or one checkpoint.
        data: the dataset.
        columns: {name of a new column: one of the task's `annotations`; "" for the first of them}.
        splits: names of the splits; all where there are none.
        overrides: settings that differ from the run's.
        overwrite: replace columns of these names.
        keep: which labels are written; the others are no label (-1). To choose by the confidence it must be asked for,
            too. Where labels are learned from, no text has one that stands in valid or test of the model's own data.
        to_tsv: file for label and text of the rows that keep their label, of the splits that are learned from. It is
            written before the columns are added, so that the same call goes on if it cannot be written.
        begin: called with the tokens in all and those already done; returns what is called with those of each batch.

    Raises:
        ConfigError: the task does not give that, or what is to be left out would leave nothing out.
        CheckpointError: the model was trained with another vocabulary.
        DataError: a column exists already.
        StorageError: the disk is full or cannot be written; the same call goes on with what was computed.
    """
    began = time.monotonic()
    tsv = resolve_output(to_tsv, "--to-tsv") if to_tsv else None
    loaded = loaded_model.load(source)
    given = list(overrides)
    settings = _settings_of(loaded, data, given)
    with distributed.joined(settings.run) as (world, device):
        distributed.check_same(world, str(loaded.file))
        settings, on_format = for_trained(settings, given, world, device)
        work, notes = _prepared(loaded, settings, columns, tuple(splits), keep, world, device)
        parts = work.parts
        with distributed.peers_watched(world), work.writer(overwrite) as writer, work.folder() as folder:
            tokens = work.compute(folder, begin)
            computed = int(world.sum([float(tokens)])[0])  # and so every chunk is there
            notes += [*on_format, *parts.notes]
            if writer:
                notes += work.merge(folder, writer)
                if tsv:
                    notes.append(f"{to_tsv}: {work.write_tsv(tsv, writer)}")
                note_finished(folder, writer.entries())
            world.wait()
        work.remove(folder)
    rows = sum(len(source) for source in parts.sources.values())
    total = sum(int(source.lengths.sum()) for source in parts.sources.values())
    written = {name: work.columns[name] for name in work.written}
    return Annotated(written, rows, total, computed, time.monotonic() - began, notes)


def _settings_of(loaded: loaded_model.Pretrained, data: str, overrides: list[Assignment]) -> Settings:
    """Returns the settings of the run with the overrides, checked."""
    own = from_tables(without_unchecked(loaded.settings).to_dict(), str(loaded.file))
    settings = parse([*of_the_task(own, overrides), *from_tables({"data": data}, "annotate")])
    check_label(loaded, settings)
    loaded.check_vocabulary(data)
    return settings


def _prepared(
    loaded: loaded_model.Pretrained,
    settings: Settings,
    columns: Mapping[str, str],
    splits: tuple[str, ...],
    keep: Selection,
    world: World,
    device: torch.device,
) -> tuple[Work, list[str]]:
    """Opens the data and checks what is asked for; returns the work, and notes for people."""
    names = splits or tuple(Dataset.open(settings.data.path).splits)
    parts = build_data(settings, list(names), loaded.labels, labelled=False)
    columns = {name: what or next(iter(parts.task.annotations()), "") for name, what in columns.items()}
    specs = check_columns(parts, columns, keep)
    needed = {**columns, **({ODDS: "log_odds"} if keep.by_confidence else {})}
    check_heads(loaded, settings, parts)
    model = loaded.objective(settings, parts.task).model.to(device)
    pair = getattr(parts.task.config, "pair", "")
    keep, unguarded = guard(keep, loaded, columns, names)
    tested = texts_to_test(keep.leave_out, pair) if world.is_first else set()
    return Work(settings, parts, needed, specs, model, world, device, keep, pair, tested), unguarded


def of_the_task(own: list[Assignment], overrides: list[Assignment]) -> list[Assignment]:
    """Returns the settings of the run, then the overrides: another task than the run's keeps the options it shares."""
    named = [given for given in overrides if given.key in ("task", "task.name")]
    known = fields_of(type(parse([*own, *named]).task.options)) if named else {}
    shared = [given for given in own if given.key.startswith("task.") and given.key.removeprefix("task.") in known]
    return [*own, *named, *shared, *(given for given in overrides if given not in named)]


@dataclasses.dataclass(frozen=True)
class Work:
    """One annotation: rows in, columns out."""

    settings: Settings
    parts: DataParts
    columns: Mapping[str, str]
    specs: dict[str, Column]
    model: Any
    world: World
    device: torch.device
    keep: Selection
    pair: str
    tested: set[str]

    @property
    def written(self) -> list[str]:
        """Names of the columns that are written, of those that are computed."""
        return [name for name in self.columns if name != ODDS]

    def key(self) -> str:
        """Returns a name for this very work, so that what was left of another is not taken for it."""
        tables = self.settings.to_dict()
        del tables["run"], tables["data"]["path"]
        types = {name: spec.dtype for name, spec in self.specs.items()}  # which another version may have changed
        weights = sorted(self.model.state_dict().items())
        sums = [[name, zlib.crc32(tensor.flatten().cpu().view(torch.uint8).numpy())] for name, tensor in weights]
        content = [sums, tables, self.parts.fingerprint, dict(self.columns), types]
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]

    @contextlib.contextmanager
    def writer(self, overwrite: bool) -> Iterator[ColumnsWriter | None]:
        """Holds the new columns in the first process, which adds them all at once at the end; None in the others."""
        if self.world.is_first:
            remove_finished(self.parts.dataset)
        for name in self.written:
            self.check_labels(name)
            for split in self.parts.sources:
                check_new(self.parts.dataset, split, name, overwrite)
        self.world.wait()
        if not self.world.is_first:
            yield None
            return
        with ColumnsWriter(self.parts.dataset, self.parts.sources, self.written, overwrite) as writer:
            yield writer

    @contextlib.contextmanager
    def folder(self) -> Iterator[Path]:
        """Makes and holds the folder of the chunks. After an error it stays, so that the same command resumes."""
        folder = self.parts.dataset.path / f".annotate-{self.key()}"
        refuse_links(self.parts.dataset.path, [folder.name], "--data")
        with storage_errors(folder):
            folder.mkdir(exist_ok=True)
        with lock(folder, "--data") if self.world.is_first else contextlib.nullcontext():
            yield folder

    def remove(self, folder: Path) -> None:
        """Removes the folder of the chunks, when the columns are there."""
        if self.world.is_first:
            shutil.rmtree(folder, ignore_errors=True)

    def labels_of(self, column: str) -> list[str] | None:
        """Returns the names of the values of a new column, where they are labels."""
        return self.parts.task.names_of(self.columns[column])

    def check_labels(self, column: str) -> None:
        """Raises a DataError if a split that is not annotated has a column of that name with other labels."""
        dataset = self.parts.dataset
        others = [name for name in dataset.splits if name not in self.parts.sources]
        taken = [name for name in others if column in dataset.splits[name].columns]
        if taken and dataset.labels.get(column) != self.labels_of(column):
            raise DataError(
                f"column {column!r} of split {taken[0]!r} has other labels than this one would have",
                where=str(dataset.path),
                fix="choose another name, or annotate all splits",
            )

    def chunks(self, source: Source) -> list[tuple[int, int]]:
        """Returns the first and one past the last row of each chunk; the same whatever the number of processes."""
        ends = np.cumsum(source.lengths)
        borders = np.searchsorted(ends, np.arange(CHUNK, ends[-1] + CHUNK, CHUNK) if len(ends) else [])
        borders = np.unique(np.minimum([0, *(borders + 1)], len(source)))
        return list(zip(borders[:-1].tolist(), borders[1:].tolist(), strict=True))

    def compute(self, folder: Path, begin: Callable[[int, int], Callable[[int], Any]]) -> int:
        """Makes this process's chunks that are not there yet; returns the tokens that were computed."""
        todo, done = [], 0
        for split, source in self.parts.sources.items():
            for number, (first, stop) in enumerate(self.chunks(source)):
                if number % self.world.size != self.world.rank:
                    continue
                files = {name: chunk_file(folder, split, number, name) for name in self.columns}
                if all(file.exists() for file in files.values()):
                    done += int(source.lengths[first:stop].sum())
                else:
                    todo.append((files, source, first, stop))
        tokens = sum(int(source.lengths[first:stop].sum()) for _, source, first, stop in todo)
        advance = begin(tokens + done, done)
        for files, source, first, stop in todo:
            values = self.chunk(source, first, stop, advance)
            reach("annotate.chunk")
            for name, file in files.items():
                with atomic_write(file) as stream:
                    stream.write(values[name].tobytes())
        return tokens

    @torch.no_grad()
    def chunk(self, source: Source, first: int, stop: int, advance: Callable[[int], Any]) -> Answers:
        """Returns {column: values} of the rows from `first` to `stop`, those of aligned columns token after token."""
        what, ids = tuple(dict.fromkeys(self.columns.values())), np.arange(first, stop)
        max_tokens = self.settings.train.max_tokens
        found = self.parts.task.annotate_rows(self.ask, source, ids, what, max_tokens, advance)
        joined, sizes = {}, source.stops[ids] - source.starts[ids]
        for column, name in self.columns.items():
            spec, parts = self.specs[column], found[name]
            if spec.kind == "aligned":  # those of the text alone, which stands behind <s>
                parts = [values[1 : size + 1] for values, size in zip(parts, sizes, strict=True)]
            values = np.concatenate(parts) if spec.kind == "aligned" else np.stack(parts)
            joined[column] = fitted(values, spec.dtype)
        return joined

    def ask(self, batch: Batch) -> tuple[dict[str, torch.Tensor], Batch]:
        """Returns the outputs of the model for a batch of numpy arrays, and the batch as it was given to it."""
        given = on_device(batch, self.device)
        with autocast(self.device, self.settings.train.precision):
            return self.model(**given.inputs), given

    def merge(self, folder: Path, writer: ColumnsWriter) -> list[str]:
        """Joins the chunks to columns; returns which labels were kept, if they were chosen."""
        notes: list[str] = []
        for split, source in self.parts.sources.items():
            for name in self.written:
                reach("annotate.merge")
                spec = self.specs[name]
                values = self.values(folder, split, source, name)
                if self.columns[name] == "label" and self.keep.chooses:
                    values = self.chosen(folder, split, source, name, notes)
                writer.write(split, name, spec, values, self.labels_of(name))
        return notes

    def write_tsv(self, file: Path, writer: ColumnsWriter) -> str:
        """Writes the labels that were kept, with their texts; returns how many and of what."""
        name = next(name for name in self.written if self.columns[name] == "label")
        labels = {split: writer.values(split, name) for split in self.parts.sources if split in self.keep.learned}
        rows = write_tsv(file, self.parts.dataset, labels, name, self.labels_of(name) or [], self.pair)
        return f"{rows:,} rows of {', '.join(labels)}"

    def chosen(self, folder: Path, split: str, source: Source, name: str, notes: list[str]) -> Iterator[np.ndarray]:
        """Yields the values of a column of labels of which only some are kept; notes how many."""
        labels = np.concatenate(list(self.values(folder, split, source, name)))
        odds = None
        if self.keep.by_confidence:
            odds = np.concatenate(list(self.values(folder, split, source, ODDS)))
        vocab, seed = self.parts.vocab, self.settings.train.seed
        labels, said = select(source.split, vocab, labels, odds, self.keep, self.tested, self.pair, seed)
        notes.append(f"{name} {said}")
        yield labels

    def values(self, folder: Path, split: str, source: Source, name: str) -> Iterator[np.ndarray]:
        """Yields the values of a column, chunk by chunk; of no row, such as `</s>`, get -1, NaN or (unsigned) 0."""
        spec, place = self.specs[name], 0
        empty = {"i": -1, "u": 0, "f": np.nan}[np.dtype(spec.dtype).kind]
        for number, (first, stop) in enumerate(self.chunks(source)):
            values = np.frombuffer(chunk_file(folder, split, number, name).read_bytes(), spec.dtype)
            if spec.kind == "row":
                yield values
                continue
            starts, stops = source.starts[first:stop], source.stops[first:stop]
            out = np.full(stops[-1] - place, empty, spec.dtype)
            sizes = stops - starts
            out[np.repeat(starts - place - (np.cumsum(sizes) - sizes), sizes) + np.arange(len(values))] = values
            place = int(stops[-1])
            yield out
        if spec.kind == "aligned":
            yield np.full(source.split.num_tokens - place, empty, spec.dtype)


def chunk_file(folder: Path, split: str, number: int, column: str) -> Path:
    """Returns where the values of a column wait, of one chunk of a split."""
    return folder / f"{split}-{number:06}.{column}.bin"


def fitted(values: np.ndarray, dtype: str) -> np.ndarray:
    """Casts values to a column's type; what is too large for float16 becomes its largest number."""
    if dtype == "float16":
        values = np.clip(values, np.finfo(dtype).min, np.finfo(dtype).max)
    return values.astype(dtype)
