"""Which labels of a model are kept: the sure ones, as many of each class, none of texts that are to be tested."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from taskmask.data.dataset import Dataset, Split
from taskmask.data.rng import RowRng
from taskmask.data.value_checks import AT_ONCE, check_all_values
from taskmask.errors import ConfigError, one_line
from taskmask.system.files import as_utf8, write_output
from taskmask.tokenizer.tokenizer import Vocabulary

MOST_SHOWN = 12


@dataclasses.dataclass(frozen=True)
class Selection:
    """What to keep of the labels of rows, or of tokens.

    Args:
        above: the least confidence, a probability; 0: any.
        balanced: keep as many of each class, the most confident ones.
        leave_out: datasets whose splits valid and test must not be learned from.
        learned: splits whose labels are learned from: no text of `leave_out` has one there.
        of_rows: the labels must be those of rows, since they are to become a file of labels and texts.
    """

    above: float = 0.0
    balanced: bool = False
    leave_out: tuple[str, ...] = ()
    learned: tuple[str, ...] = ("train",)
    of_rows: bool = False

    def __post_init__(self) -> None:
        if not 0 <= self.above <= 1:
            raise ConfigError(f"is {self.above}", where="--confident", expected="a share from 0 to 1")

    @property
    def least_odds(self) -> float:
        """The log-odds of `above`: of probabilities near 1 only their log-odds can be told apart."""
        with np.errstate(divide="ignore"):  # -inf of 0, and inf of 1, which no model reaches
            return float(np.log(self.above) - np.log1p(-self.above))

    @property
    def by_confidence(self) -> bool:
        """Whether labels are chosen by how sure the model is of them."""
        return self.above > 0 or self.balanced

    @property
    def option(self) -> str:
        """The options that were given, for messages."""
        given = {"--confident": self.above > 0, "--balance": self.balanced, "--leave-out": self.leave_out}
        return ", ".join(name for name, value in given.items() if value)

    @property
    def chooses(self) -> bool:
        """Whether some labels may be taken away."""
        return self.by_confidence or bool(self.leave_out)


def check_leave_out(chosen: Selection, splits: Iterable[str]) -> None:
    """Raises a ConfigError where `leave_out` would leave nothing out."""
    if chosen.leave_out and not set(splits) & set(chosen.learned):
        what, fix = "leaves nothing out of splits that are not learned from", "leave it out, or name other splits"
        raise ConfigError(what, where="--leave-out", expected=f"{', '.join(chosen.learned)} among them", fix=fix)
    for path in chosen.leave_out:
        known = Dataset.open(path).splits
        if not known.keys() & {"valid", "test"}:
            what = f"names {path}, which has the splits {', '.join(known)}"
            raise ConfigError(what, where="--leave-out", expected="valid or test, which are left out")


def select(
    split: Split,
    vocab: Vocabulary,
    labels: np.ndarray,
    odds: np.ndarray | None,
    chosen: Selection,
    tested: set[str],
    pair: str = "",
    seed: int = 0,
) -> tuple[np.ndarray, str]:
    """Takes the labels away (-1) that are not to be kept.

    Args:
        split: the split.
        vocab: its vocabulary.
        labels: int [N], of its rows or of its tokens.
        odds: float [N], the log-odds of the confidence in them; None where nothing is chosen by it.
        chosen: what to keep.
        tested: what `texts_to_test` gives of `chosen.leave_out`.
        pair: column with the second text of a row; "" where it has one.
        seed: of the draws between labels that are equally sure.

    Returns:
        The labels; what was done, for people.
    """
    guarded = split.name in chosen.learned and bool(tested)
    leaked = np.zeros(split.rows, bool)
    if guarded:  # data without a second text tests on the first, whatever the second
        texts = texts_of(split, vocab, pair)
        leaked = np.fromiter((not tested.isdisjoint((t, t.partition("\n")[0])) for t in texts), bool, split.rows)
    if len(labels) != split.rows:
        leaked = np.repeat(leaked, np.diff(split.offsets("tokens")))
    known = labels >= 0
    kept = known & ~leaked
    if odds is not None:
        kept &= odds >= chosen.least_odds
    each = ""
    if odds is not None and chosen.balanced:
        kept = balance(labels, odds, kept, seed)
        each = f", {np.bincount(labels[kept]).max(initial=0):,} of each class, as the scarcest has no more"
        found, lost = np.unique(labels[known]), np.setdiff1d(labels[known], labels[kept])
        each += f", but none of {len(lost)} of the {len(found)} classes, which have no sure label" if len(lost) else ""
    left = f", {int((leaked & known).sum()):,} left out as they are to be tested" if guarded else ""
    said = f"of {split.name}: {int(kept.sum()):,} of {int(known.sum()):,} labels kept{each}{left}"
    return np.where(kept, labels, -1).astype(labels.dtype), said


def shares(dataset: Dataset, split: str, column: str) -> str:
    """Returns which share of the rows, or of the tokens of texts, has which label, as a line for people."""
    part, names = dataset.split(split), dataset.labels[column]
    is_special = dataset.vocabulary().is_special
    labels, of_tokens = part.values(column), part.column(column).kind == "aligned"
    counts = np.zeros(len(names) + 1, np.int64)
    for start in range(0, len(labels), AT_ONCE):
        some = np.asarray(labels[start : start + AT_ONCE])
        if of_tokens:
            some = some[~is_special[part.tokens(start, start + AT_ONCE)]]
        counts += np.bincount(some + 1, minlength=len(counts))
    order = np.argsort(-counts[1:], kind="stable")[:MOST_SHOWN]
    shown = [f"{names[n]} {counts[n + 1] / max(counts.sum(), 1):.1%}" for n in order]
    if len(names) > MOST_SHOWN:
        shown.append(f"{len(names) - MOST_SHOWN} more")
    if counts[0]:
        shown.append(f"without a label {counts[0] / counts.sum():.1%}")
    return f"{column} of {split}, of {counts.sum():,} {'tokens' if of_tokens else 'rows'}: {', '.join(shown)}"


def write_tsv(
    file: Path, dataset: Dataset, labels: Mapping[str, np.ndarray], column: str, names: Sequence[str], pair: str = ""
) -> int:
    """Writes the rows with a label as a tsv of label and text, to be mixed into fine-tuning; returns how many.

    **Source:** Guo 2020 (arXiv 2011.09031), section 2 (classic self-training, which this is a step of).

    Args:
        file: as `resolve_output` returns it.
        dataset: holds the texts.
        labels: {split: int [rows], -1 for none}.
        column: field of the labels.
        names: of the labels.
        pair: column with the second text, and its field; "" where there is one text.
    """
    vocab, rows = dataset.vocabulary(), 0
    with write_output(file) as stream:
        texts = {"tokens": "text", pair: pair} if pair else {"tokens": "text"}
        stream.write(as_utf8("\t".join(map(one_line, [column, *texts.values()])) + "\n"))
        for name, of_rows in labels.items():
            split = dataset.split(name)
            stored = [(split.values(text), split.offsets(text)) for text in texts]
            for row in np.flatnonzero(of_rows >= 0).tolist():
                parts = [vocab.decode(tokens[offsets[row] : offsets[row + 1]]) for tokens, offsets in stored]
                fields = map(one_line, [names[of_rows[row]], *parts])
                stream.write(as_utf8("\t".join(fields) + "\n"))
                rows += 1
    return rows


def balance(labels: np.ndarray, odds: np.ndarray, kept: np.ndarray, seed: int = 0) -> np.ndarray:
    """Returns bool [N]: of those that are kept as many of each class that occurs, the most confident ones.

    Those of equal log-odds come in a random order, a function of the seed and of their place alone.

    **Source:** Guo 2020 (arXiv 2011.09031), section 2 (classic self-training: sampled evenly per class).
    """
    classes, counts = np.unique(labels[kept], return_counts=True)
    chosen = np.zeros(len(labels), bool)
    for number in classes:
        rows = np.flatnonzero(kept & (labels == number))
        order = np.lexsort((RowRng(seed, 0, rows).bits("balance", 1)[:, 0], -odds[rows]))
        chosen[rows[order][: counts.min()]] = True
    return chosen


def texts_to_test(datasets: Sequence[str], pair: str = "") -> set[str]:
    """Returns the texts of the splits valid and test of datasets, as `texts_of` has them."""
    found: set[str] = set()
    for path in datasets:
        dataset = Dataset.open_to_read(path)
        vocab = dataset.vocabulary()
        for name in {"valid", "test"} & dataset.splits.keys():
            found |= set(texts_of(dataset.split(name), vocab, pair))
    return found


def texts_of(split: Split, vocab: Vocabulary, pair: str = "") -> Iterator[str]:
    """Yields the text of every stored row, without case, blanks and punctuation, and of column `pair`, if any."""
    columns = [name for name in ("tokens", pair) if name in split.columns]
    stored = [(split.values(name), split.offsets(name)) for name in columns]
    check_all_values(split)
    for row in range(split.rows):
        texts = (vocab.decode(tokens[offsets[row] : offsets[row + 1]]).casefold() for tokens, offsets in stored)
        yield "\n".join(re.sub(r"[\W_]+", "", text) for text in texts)
