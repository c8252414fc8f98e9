"""From row ids to `Rows`: the cut of a split into rows, and the gathering of a batch of them."""

from __future__ import annotations

from typing import NoReturn

import numpy as np

from taskmask.data import blocks, pad
from taskmask.data.columns import Split
from taskmask.data.rows import Rows
from taskmask.data.vocab import Vocabulary
from taskmask.errors import DataError


class RowSource:
    """The rows of one split: `source[ids]` gathers a batch.

    Args:
        split: the split of a dataset.
        vocab: its vocabulary.
        length: tokens in the longest row, `<s>` and `</s>` included.
        mode: "complete", "document" or "sentence".
        columns: columns to gather besides the tokens.

    Attributes:
        lengths: int64 [N], tokens of each row.

    Raises:
        DataError: the split lacks a column, or a column cannot follow the rows.
    """

    def __init__(self, split: Split, vocab: Vocabulary, length: int, mode: str, columns: tuple[str, ...] = ()):
        for name in columns:
            column = split.column(name)
            if name != "tokens" and (column.kind == "ragged" or column.of not in ("", "tokens")):
                raise DataError(
                    f"column {name!r} has lengths of its own",
                    where=f"{split.folder}, split {split.name}",
                    expected="a column aligned to the tokens, or with one value a row",
                )
        self.split, self.vocab, self.columns = split, vocab, tuple(c for c in columns if c != "tokens")
        documents = split.values("document") if "document" in split.columns else None
        self.blocks = blocks.cut(split.offsets("tokens"), documents, length, mode)
        self.lengths = self.blocks.stops - self.blocks.starts + 2

    def __len__(self) -> int:
        return len(self.lengths)

    @property
    def checksums(self) -> list[str]:
        """Names and checksums of the files that the rows are made of."""
        names = [name for name in ("tokens", "document", *self.columns) if name in self.split.columns]
        files = [(name, part, file) for name in names for part, file in self.split.columns[name].files.items()]
        return [f"{self.split.name} {name} {part} {file.crc32:08x}" for name, part, file in files]

    def __getitem__(self, ids: np.ndarray) -> Rows:
        starts, stops = self.blocks.starts[ids], self.blocks.stops[ids]
        vocab = self.vocab
        tokens, lengths = pad.gather(self.split.values("tokens"), starts, stops, vocab.bos, vocab.eos, vocab.pad)
        if tokens.max() >= vocab.size:
            self._blame(tokens, ids)
        columns = {}
        for name in self.columns:
            values = self.split.values(name)
            if self.split.columns[name].kind == "aligned":
                columns[name] = pad.gather_aligned(values, starts, stops, tokens.shape[1], 0)
            else:
                columns[name] = np.asarray(values[self.blocks.source[ids]])
        return Rows(tokens, lengths, np.asarray(ids), vocab, columns)

    def _blame(self, tokens: np.ndarray, ids: np.ndarray) -> NoReturn:
        """Raises a DataError that names the stored row with a token that is not in the vocabulary."""
        row, position = np.argwhere(tokens >= self.vocab.size)[0]
        place = self.blocks.starts[ids[row]] + position - 1  # after <s>
        stored = int(np.searchsorted(self.split.offsets("tokens"), place, side="right")) - 1
        raise DataError(
            f"token id {tokens[row, position]} is not in the vocabulary",
            where=f"{self.split.folder}, row {stored} of split {self.split.name}",
            expected=f"0 to {self.vocab.size - 1}",
            fix="check the dataset with taskmask list --data DIR --verify",
        )
