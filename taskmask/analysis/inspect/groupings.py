"""Divisions of the tokens of a corpus, by which one sees what a policy prefers: words, frequency, place, columns.

Shapes: B rows, T tokens in the longest row, V vocabulary, G groups.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from taskmask.data.batch import TokenBatch
from taskmask.data.dataset import Dataset, Split
from taskmask.tokenizer.tokenizer import Vocabulary

TENTHS = 10
LENGTHS = (1, 2, 3, 4, 6, 9)  # last length of each group of words; the group after them holds all longer ones
PIECES = (1, 2, 3, 4)
MOST_VALUES = 24
_CHUNK = 1 << 22


@dataclass
class Groups:
    """A division of the tokens into named groups.

    Args:
        name: what divides them.
        labels: names of the groups.
        index: a batch each, int [B, T]: the group of each token, -1 where it has none.
        axis: what the groups are, for the axis of a chart; empty where they are too many to draw.
        pieces: of words alone: how many pieces each has.
    """

    name: str
    labels: list[str]
    index: list[np.ndarray] = field(default_factory=list)
    axis: str = ""
    pieces: list[int] = field(default_factory=list)


def divide(batches: Sequence[TokenBatch], split: Split, dataset: Dataset, columns: Sequence[str]) -> list[Groups]:
    """Returns the divisions of a sample: frequency, position, length of words, their pieces, columns, words."""
    vocab = batches[0].vocab
    rank = frequency_tenths(token_counts(split, vocab.size), vocab)
    examples = examples_of(rank, token_counts_of(batches, vocab.size), vocab)
    frequency = Groups("frequency", examples, axis="tenths of the text, frequent to rare pieces")
    position = Groups("position", [f"{n * 10}-{n * 10 + 10} %" for n in range(TENTHS)], axis="place in the row")
    for rows in batches:
        frequency.index.append(np.where(rows.maskable, rank[rows.tokens], -1))
        place = np.arange(rows.shape[1])[None, :] * TENTHS // np.maximum(rows.lengths, 1)[:, None]
        position.index.append(np.where(rows.maskable, np.minimum(place, TENTHS - 1), -1))
    words = words_of(batches)
    of_columns = [of_column(name, batches, dataset.labels.get(name)) for name in columns]
    return [frequency, position, *by_word(words), *(groups for groups in of_columns if groups), words]


def token_counts(split: Split, size: int) -> np.ndarray:
    """Returns int64 [V], how often each piece stands in a split; read in chunks."""
    counts = np.zeros(size, np.int64)
    for start in range(0, split.num_tokens, _CHUNK):
        counts += np.bincount(split.tokens(start, start + _CHUNK), minlength=size)[:size]
    return counts


def token_counts_of(batches: Sequence[TokenBatch], size: int) -> np.ndarray:
    """Returns int64 [V], how often each piece stands in a sample."""
    return sum((np.bincount(rows.tokens.reshape(-1), minlength=size) for rows in batches), np.zeros(size, np.int64))


def frequency_tenths(counts: np.ndarray, vocab: Vocabulary) -> np.ndarray:
    """Returns int64 [V], the tenth of the text that a piece belongs to: 0 the most frequent pieces, 9 the rarest.

    Each tenth holds as much text as the others, so the first has few pieces and the last has most.
    """
    counts = np.where(vocab.is_special, 0, counts)
    order = np.argsort(-counts, kind="stable")
    middle = np.cumsum(counts[order]) - counts[order] / 2
    tenths = np.empty(len(counts), np.int64)
    tenths[order] = np.minimum(middle * TENTHS // max(counts.sum(), 1), TENTHS - 1)
    return tenths


def examples_of(rank: np.ndarray, counts: np.ndarray, vocab: Vocabulary) -> list[str]:
    """Returns a label for each tenth: its number and its most frequent pieces in the sample."""
    labels = []
    for tenth in range(TENTHS):
        inside = np.flatnonzero((rank == tenth) & (counts > 0) & ~vocab.is_special)
        top = inside[np.argsort(-counts[inside], kind="stable")[:3]]
        labels.append(" ".join([str(tenth + 1), *(piece.replace("▁", "") or "▁" for piece in vocab.pieces(top))]))
    return labels


def words_of(batches: Sequence[TokenBatch]) -> Groups:
    """Returns the words of a sample, as they are written; a group each."""
    known: dict[tuple[int, ...], int] = {}
    groups = Groups("word", [])
    for rows in batches:
        index = np.full(rows.shape, -1)
        for row, (tokens, numbers) in enumerate(zip(rows.tokens, rows.words, strict=True)):
            inside = np.flatnonzero(numbers >= 0)
            starts = inside[np.flatnonzero(np.diff(numbers[inside], prepend=-1))]
            own = tokens.tolist()
            size = np.bincount(numbers[inside])
            for start, pieces in zip(starts.tolist(), size[numbers[starts]].tolist(), strict=True):
                index[row, start : start + pieces] = known.setdefault(tuple(own[start : start + pieces]), len(known))
        groups.index.append(np.where(rows.maskable, index, -1))
    vocab = batches[0].vocab
    groups.labels = [vocab.decode(pieces).strip() or " ".join(vocab.pieces(pieces)) for pieces in known]
    groups.pieces = [len(pieces) for pieces in known]
    return groups


def by_word(words: Groups) -> list[Groups]:
    """Returns the divisions by the length of the word that a token stands in, in letters and in pieces."""
    found = []
    for name, sizes, ends, axis in (
        ("word length", [len(word) for word in words.labels], LENGTHS, "letters of the word"),
        ("pieces", words.pieces, PIECES, "pieces of the word"),
    ):
        group = np.append(np.searchsorted(ends, np.array(sizes, np.int64)), -1)
        starts = [1, *(end + 1 for end in ends)]
        labels = [str(a) if a == b else f"{a}-{b}" for a, b in zip(starts, ends, strict=False)]
        labels.append(f"{starts[-1]}+")
        found.append(Groups(name, labels, [group[index] for index in words.index], axis))
    return found


def of_column(name: str, batches: Sequence[TokenBatch], labels: Sequence[str] | None) -> Groups | None:
    """Returns the division by a column: by its values where they are few whole numbers, by fifths of other numbers.

    None where it has too many whole numbers to be an annotation, or says nothing.
    """
    values = [np.broadcast_to(_per_token(rows.columns[name]), rows.shape) for rows in batches]
    seen = np.concatenate([one[rows.maskable] for one, rows in zip(values, batches, strict=True)])
    seen = seen[np.isfinite(seen)]
    distinct = np.unique(seen)
    if len(distinct) < 2:
        return None
    if seen.dtype.kind == "f":
        edges = np.unique(np.quantile(seen.astype(np.float64), [0.2, 0.4, 0.6, 0.8]))
        names = _between(float(seen.min()), edges, float(seen.max()))
        index = [np.where(np.isnan(one), -1, np.searchsorted(edges, one, side="left")) for one in values]
    elif len(distinct) <= MOST_VALUES:
        names = ["none" if v < 0 else labels[v] if labels else str(v) for v in distinct.tolist()]
        index = [np.searchsorted(distinct, one) for one in values]
    else:
        return None
    inside = [np.where(rows.maskable, one, -1) for one, rows in zip(index, batches, strict=True)]
    return Groups(f"column {name}", names, inside, f"column {name}")


def _per_token(column: np.ndarray) -> np.ndarray:
    return column if column.ndim > 1 else column[:, None]


def _between(low: float, edges: np.ndarray, high: float) -> list[str]:
    ends = [low, *edges.tolist(), high]
    return [f"{a:.3g} to {b:.3g}" for a, b in itertools.pairwise(ends)]


def annotation_columns(split: Split) -> list[str]:
    """Returns the columns of a split that say something of its tokens or rows, besides the text itself."""
    return [
        name
        for name, column in split.columns.items()
        if name != "document"
        and column.width == 1
        and (column.kind == "row" or (column.kind == "aligned" and column.of == "tokens"))
    ]
