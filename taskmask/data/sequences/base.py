"""From row ids to `TokenBatch`: the rows of a split, and the gathering of a batch of them."""

from __future__ import annotations

from typing import NoReturn

import numpy as np

from taskmask.data import blocks, padding
from taskmask.data.batch import TokenBatch
from taskmask.data.dataset import Split
from taskmask.errors import DataError
from taskmask.tokenizer.tokenizer import Vocabulary


class Source:
    """The rows of one split: `source[ids]` gathers a batch. A subclass sets `starts`, `stops`, `stored` and `lengths`.

    Args:
        split: the split of a dataset.
        vocab: its vocabulary.
        columns: columns to gather besides the tokens.
        relabel: {label column: id in the dataset -> id to give, int [labels]}, where the two differ.

    Attributes:
        starts: int64 [N], first token of each row among the stored ones.
        stops: int64 [N], one past its last.
        stored: int64 [N], the stored row that it begins in.
        lengths: int64 [N], tokens of each row, specials included.
        notes: what people should know of the rows, a sentence each.

    Raises:
        DataError: the split lacks a column, or a column cannot follow the rows.
    """

    starts: np.ndarray
    stops: np.ndarray
    stored: np.ndarray
    lengths: np.ndarray

    def __init__(
        self,
        split: Split,
        vocab: Vocabulary,
        columns: tuple[str, ...] = (),
        relabel: dict[str, np.ndarray] | None = None,
    ):
        for name in columns:
            column = split.column(name)
            if name != "tokens" and (column.kind == "ragged" or column.of not in ("", "tokens")):
                raise DataError(
                    f"column {name!r} has lengths of its own",
                    where=f"{split.folder}, split {split.name}",
                    expected="a column aligned to the tokens, or with one value a row",
                )
        self.split, self.vocab, self.columns = split, vocab, tuple(c for c in columns if c != "tokens")
        self.relabel = relabel or {}
        self.notes: list[str] = []

    def __len__(self) -> int:
        return len(self.lengths)

    @property
    def examples(self) -> np.ndarray:
        """The document in which each row begins, int64 [N]: rows of one document are alike, so they are one example."""
        if "document" not in self.split.columns:
            return self.stored
        return np.asarray(self.split.values("document")[self.stored], np.int64)

    @property
    def used(self) -> tuple[str, ...]:
        """Names of the columns that the rows are made of."""
        return tuple(name for name in ("tokens", "document", *self.columns) if name in self.split.columns)

    @property
    def checksums(self) -> list[str]:
        """Names and checksums of the files that the rows are made of."""
        files = [(name, part, file) for name in self.used for part, file in self.split.columns[name].files.items()]
        return [f"{self.split.name} {name} {part} {file.crc32:08x}" for name, part, file in files]

    def __getitem__(self, ids: np.ndarray) -> TokenBatch:
        starts, stops, vocab = self.starts[ids], self.stops[ids], self.vocab
        tokens, lengths = padding.gather(self.split.values("tokens"), starts, stops, vocab.bos, vocab.eos, vocab.pad)
        return self._rows(tokens, lengths, ids)

    def _rows(self, tokens: np.ndarray, lengths: np.ndarray, ids: np.ndarray, **more: np.ndarray) -> TokenBatch:
        """Returns the rows with their columns; `more` are columns that are made, not stored."""
        if tokens.max(initial=0) >= self.vocab.size:
            self._blame(tokens, ids)
        columns = dict(more)
        for name in self.columns:
            values = self.split.values(name)
            if self.split.columns[name].kind == "aligned":
                chosen = padding.gather_aligned(values, self.starts[ids], self.stops[ids], tokens.shape[1], 0)
            else:
                chosen = np.asarray(values[self.stored[ids]])
            if name in self.relabel:  # below 0 is no label
                chosen = np.where(chosen < 0, chosen, self.relabel[name][np.maximum(chosen, 0)])
            columns[name] = chosen
        return TokenBatch(tokens, lengths, np.asarray(ids), self.vocab, columns)

    def _blame(self, tokens: np.ndarray, ids: np.ndarray) -> NoReturn:
        """Raises a DataError that names the stored row with a token that is not in the vocabulary."""
        row, position = np.argwhere(tokens >= self.vocab.size)[0]
        place = self.starts[ids[row]] + position - 1  # after <s>
        stored = int(np.searchsorted(self.split.offsets("tokens"), place, side="right")) - 1
        raise DataError(
            f"token id {tokens[row, position]} is not in the vocabulary",
            where=f"{self.split.folder}, row {stored} of split {self.split.name}",
            expected=f"0 to {self.vocab.size - 1}",
            fix="check the dataset with taskmask list --data DIR --verify",
        )


class RowSource(Source):
    """Rows cut from the stream of tokens.

    Args:
        split: the split of a dataset.
        vocab: its vocabulary.
        length: tokens in the longest row, `<s>` and `</s>` included.
        mode: "complete", "document" or "sentence".
        columns: columns to gather besides the tokens.
        relabel: as for `Source`.
    """

    def __init__(
        self,
        split: Split,
        vocab: Vocabulary,
        length: int,
        mode: str,
        columns: tuple[str, ...] = (),
        relabel: dict[str, np.ndarray] | None = None,
    ):
        super().__init__(split, vocab, columns, relabel)
        documents = split.values("document") if "document" in split.columns else None
        cut = blocks.cut(split.offsets("tokens"), documents, length, mode)
        self.starts, self.stops, self.stored = cut.starts, cut.stops, cut.source
        self.lengths = self.stops - self.starts + 2


class Examples(Source):
    """The stored rows, each a row of its own: `<s> text </s>`, or for a pair `<s> text </s> second </s>`.

    What is longer than the model is cut at its end, of a pair always the longer text; `notes` tell how often.

    Args:
        split: the split of a dataset.
        vocab: its vocabulary.
        length: tokens in the longest row, specials included.
        pair: column with the second texts; "" where there is one text.
        columns: columns to gather besides the tokens.
        relabel: as for `Source`.

    Attributes:
        is_cut: bool [N], the row is not whole.
    """

    def __init__(
        self,
        split: Split,
        vocab: Vocabulary,
        length: int,
        pair: str = "",
        columns: tuple[str, ...] = (),
        relabel: dict[str, np.ndarray] | None = None,
    ):
        super().__init__(split, vocab, columns, relabel)
        self.pair = pair
        offsets = split.offsets("tokens")
        document = split.values("document") if "document" in split.columns else None
        self.starts, sizes = offsets[:-1], np.diff(offsets) - blocks.ends_document(split.rows, document)
        self.stored = np.arange(split.rows)
        room = length - 2
        second = np.zeros(split.rows, np.int64)
        if pair:
            column = split.column(pair)
            if column.kind != "ragged":
                raise DataError(
                    f"column {pair!r} holds no texts",
                    where=f"{split.folder}, split {split.name}",
                    fix="prepare the data with taskmask-preprocess --text text " + pair,
                )
            self.pair_starts, second = split.offsets(pair)[:-1], np.diff(split.offsets(pair)) - 1
            room -= vocab.pair_separators
            if room < 2:
                raise DataError(f"rows of {length} tokens have no room for two texts", where="data.length")
        kept = np.minimum(sizes, np.maximum(room - second, (room + 1) // 2))  # the longer one is cut, then both alike
        kept_second = np.minimum(second, room - kept)
        self.stops = self.starts + kept
        self.lengths = kept + 2
        if pair:
            self.pair_stops = self.pair_starts + kept_second
            self.lengths = self.lengths + vocab.pair_separators + kept_second
        self.is_cut = sizes + second > kept + kept_second
        self._note({"text": sizes, "second text": second} if pair else {"text": sizes}, length)

    def only(self, rows: np.ndarray, why: str) -> Examples:
        """Leaves out all but these rows [n], and notes how many and why."""
        if out := len(self) - len(rows):
            self.notes.append(f"split {self.split.name}: {out:,} of {len(self):,} rows {why}, and are left out")
            pair = ("pair_starts", "pair_stops") if self.pair else ()
            for name in ("starts", "stops", "stored", "lengths", "is_cut", *pair):
                setattr(self, name, getattr(self, name)[rows])
        return self

    def _note(self, sizes: dict[str, np.ndarray], length: int) -> None:
        where = f"split {self.split.name}"
        if cut := int(self.is_cut.sum()):
            self.notes.append(f"{where}: {cut:,} of {len(self):,} rows are cut to data.length {length}")
        for what, tokens in sizes.items():
            if empty := int((tokens == 0).sum()):
                self.notes.append(f"{where}: {empty:,} of {len(self):,} rows have no {what}")

    @property
    def used(self) -> tuple[str, ...]:
        """Names of the columns that the rows are made of."""
        return (*super().used, *([self.pair] if self.pair else []))

    def __getitem__(self, ids: np.ndarray) -> TokenBatch:
        if not self.pair:
            return super().__getitem__(ids)
        vocab, split = self.vocab, self.split
        tokens, lengths, segments = padding.gather_pairs(
            (split.values("tokens"), split.values(self.pair)),
            (self.starts[ids], self.pair_starts[ids]),
            (self.stops[ids], self.pair_stops[ids]),
            vocab.bos,
            vocab.eos,
            vocab.pad,
            vocab.pair_separators,
        )
        return self._rows(tokens, lengths, ids, segments=segments)


def no_labels(split: Split, what: str) -> DataError:
    """Returns the error of a split that has nothing to learn from or to be measured on."""
    return DataError(
        what,
        where=f"{split.folder}, split {split.name}",
        expected="one or more",
        fix="name another split, or another column with task.label; taskmask predict and annotate need no labels",
    )


def labelled_rows(split: Split, label: str) -> np.ndarray:
    """Returns the stored rows, int64 [n], that have a label in a column, or a token that has.

    Labels below 0 and numbers that are NaN are none.

    Raises:
        DataError: none has one.
    """
    values, known = split.values(label), np.zeros(split.rows, bool)
    if split.column(label).dtype.startswith("float"):
        known[:] = ~np.isnan(values)
    elif split.column(label).kind == "row":
        known[:] = values >= 0
    else:
        offsets = split.offsets("tokens")
        full = np.flatnonzero(np.diff(offsets))
        known[full] = np.maximum.reduceat(values, offsets[full]) >= 0
    if split.rows and not known.any():
        raise no_labels(split, f"no row has a label in column {label!r}")
    return np.flatnonzero(known)
