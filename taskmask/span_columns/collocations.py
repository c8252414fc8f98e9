"""Collocations: words that stand together more often than by chance, counted over a dataset, and their file.

Shapes: W words of a stretch, E n-grams of one length.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from taskmask.data.dataset import Split
from taskmask.errors import DataError
from taskmask.preprocess.utf8 import decode
from taskmask.span_columns.words import Words, joint, keys_of_texts, ngrams, stretches, words_of
from taskmask.system.files import LARGE, read_bounded, write_output
from taskmask.tokenizer.tokenizer import Vocabulary

LONGEST = 5
SHARES = {2: 0.5, 3: 0.25, 4: 0.125, 5: 0.125}  # of the list, of 2, 3, 4 and 5 words
MOST_KEYS = 1 << 25  # counted at once; more are counted in several passes
MOST_KEPT = 1 << 24  # of each length; where more are frequent enough, the most frequent ones
HEADER = "collocation\tcount\tpmi"
Advance = Callable[[str, int], Any]  # what is done, tokens that are done


@dataclass(frozen=True)
class Counted:
    """The n-grams of one length that are frequent enough.

    Attributes:
        keys: uint64 [E], ascending.
        counts: int64 [E].
        places: int64 [E], the token of the split at which the first of each begins.
        least: how often each is there at least.
    """

    keys: np.ndarray
    counts: np.ndarray
    places: np.ndarray
    least: int = 1

    def find(self, keys: np.ndarray) -> np.ndarray:
        """Returns int64, where each key is; -1 where it is not."""
        if not len(self.keys):
            return np.full(keys.shape, -1)
        at = np.minimum(np.searchsorted(self.keys, keys), len(self.keys) - 1)
        return np.where(self.keys[at] == keys, at, -1)


@dataclass(frozen=True)
class Collocation:
    """Some words that stand together.

    Args:
        text: the words, separated by spaces.
        count: how often they stand together.
        pmi: their mutual information, see `rank`.
    """

    text: str
    count: int
    pmi: float


def collocations(
    split: Split,
    vocab: Vocabulary,
    size: int | None = None,
    least: int = 10,
    advance: Advance = lambda what, tokens: None,
    most_keys: int = MOST_KEYS,
    most_kept: int = MOST_KEPT,
) -> tuple[list[Collocation], dict[int, int], dict[int, int]]:
    """Finds the strongest collocations of 2 to 5 words in a split; the best of each length first.

    Every n-gram is counted exactly, in memory that does not grow with the text: only those are counted whose parts are
    frequent themselves, and where there are more than `most_keys`, those with high keys in another pass. Where more
    than `most_kept` of a length are frequent enough, `least` rises for it and all longer ones until no more are.

    Args:
        split: the text.
        vocab: its vocabulary.
        size: collocations at most, divided among the lengths as `SHARES` says; None: a tenth of the n-grams of each
            length that are frequent enough.
        least: how often one stands there at least.
        advance: is told of progress.
        most_keys: n-grams that are counted at once.
        most_kept: n-grams of each length that are kept.

    Returns:
        The collocations, {n: how many n-grams are frequent enough}, and {n: how often these are there at least}.

    **Source:** Levine et al. 2021 (PMI-Masking, arXiv 2010.01825), section 3: n-grams of 2 to 5 words that occur at
    least 10 times, and the measure of `rank`. Differs from the paper: words are as the vocabulary writes them, capitals
    included, and no n-gram has punctuation in it.
    """
    counted: list[Counted] = []
    for n in range(1, LONGEST + 1):
        passes = lambda n=n: _keys(split, vocab, counted, n, advance)  # noqa: E731
        counted.append(count(passes, least, most_keys, most_kept))
        least = counted[-1].least  # what is within a longer one that is kept is kept
    words, stops, totals = _described(split, vocab, counted, advance)
    found: list[Collocation] = []
    for n in range(2, LONGEST + 1):
        pmi = rank(words[n], counted, totals)
        best = np.argsort(-pmi, kind="stable")[: len(pmi) // 10 if size is None else int(size * SHARES[n])]
        own = counted[n - 1]
        ranges = np.stack([own.places[best], stops[n][best]], axis=1)
        texts, right = _texts(split, vocab, ranges, own.keys[best])
        chosen = zip(texts, own.counts[best].tolist(), pmi[best].tolist(), right, strict=True)
        found += [Collocation(text, times, value) for text, times, value, is_right in chosen if is_right]
    sizes = {n: len(one.keys) for n, one in enumerate(counted, 1)}
    return found, sizes, {n: one.least for n, one in enumerate(counted, 1)}


def _all_words(split: Split, vocab: Vocabulary, what: str, advance: Advance) -> Iterator[tuple[int, Words]]:
    for stretch in stretches(split):
        yield stretch.start, words_of(stretch.tokens, stretch.offsets, vocab)
        advance(what, len(stretch.tokens))


def _keys(
    split: Split, vocab: Vocabulary, counted: list[Counted], n: int, advance: Advance
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yields (keys, places) of the n-grams whose parts of n - 1 words are frequent."""
    for start, words in _all_words(split, vocab, f"count {n} of {LONGEST}", advance):
        found = ngrams(words, n)
        keys, valid = found[-1]
        here = np.flatnonzero(valid)
        if n > 1:
            parts = found[-2][0]
            for shift in (0, 1):
                here = here[counted[-1].find(parts[here + shift]) >= 0]
        yield keys[here], start + words.firsts[here]


def count(
    passes: Callable[[], Iterable[tuple[np.ndarray, np.ndarray]]],
    least: int,
    most_keys: int = MOST_KEYS,
    most_kept: int = MOST_KEPT,
) -> Counted:
    """Counts keys exactly in bounded memory.

    Args:
        passes: gives all (keys uint64, places int64) anew at each call.
        least: keys that are there less often are left out.
        most_keys: how many different keys are held; where there are more, those above a limit wait for another pass.
        most_kept: how many are returned; where more are frequent enough, `least` rises until no more are.
    """
    low, kept = 0, _merged([])
    while True:
        limit: int | None = None  # keys from there on wait
        table = waiting = _merged([])
        for keys, places in passes():
            inside = keys >= np.uint64(low)
            if limit is not None:
                inside &= keys < np.uint64(limit)
            new = Counted(keys[inside], np.ones(int(inside.sum()), np.int64), places[inside])
            waiting = _merged([waiting, new])
            if len(waiting.keys) * 4 > most_keys:
                table, waiting = _merged([table, waiting]), _merged([])
            if len(table.keys) > most_keys:
                limit = int(table.keys[max(most_keys // 2, 1)])
                table = _some(table, table.keys < np.uint64(limit))
        table = _merged([table, waiting])
        if limit is not None:
            table = _some(table, table.keys < np.uint64(limit))
        kept = _merged([kept, _some(table, table.counts >= least)])
        if len(kept.keys) > most_kept:
            least = int(np.partition(kept.counts, -most_kept - 1)[-most_kept - 1]) + 1
            kept = _some(kept, kept.counts >= least)
        if limit is None:
            return replace(kept, least=least)
        low = limit


def _some(table: Counted, index: np.ndarray) -> Counted:
    return Counted(table.keys[index], table.counts[index], table.places[index])


def _merged(tables: list[Counted]) -> Counted:
    """Returns one table, each key once, with the place where it stands first."""
    keys = np.concatenate([np.zeros(0, np.uint64), *(one.keys for one in tables)])
    none = np.zeros(0, np.int64)
    counts, places = (np.concatenate([none, *(getattr(t, name) for t in tables)]) for name in ("counts", "places"))
    joined = Counted(keys, counts, places)
    if not len(joined.keys):
        return joined
    ordered = _some(joined, np.argsort(joined.keys, kind="stable"))
    first = np.flatnonzero(np.append(True, ordered.keys[1:] != ordered.keys[:-1]))
    return Counted(ordered.keys[first], np.add.reduceat(ordered.counts, first), ordered.places[first])


def _described(
    split: Split, vocab: Vocabulary, counted: list[Counted], advance: Advance
) -> tuple[dict[int, np.ndarray], dict[int, np.ndarray], dict[int, int]]:
    """Returns for each n the keys of the words, uint64 [E, n], one past the last token, int64 [E], and how many n-grams
    there are in all."""
    sizes = range(1, LONGEST + 1)
    words = {n: np.zeros((len(counted[n - 1].keys), n), np.uint64) for n in sizes}
    stops = {n: np.zeros(len(counted[n - 1].keys), np.int64) for n in sizes}
    order = {n: np.argsort(counted[n - 1].places, kind="stable") for n in sizes}
    totals = dict.fromkeys(sizes, 0)
    for start, here in _all_words(split, vocab, "look again", advance):
        for n, (_, valid) in zip(sizes, ngrams(here, LONGEST), strict=True):
            totals[n] += int(valid.sum())
            if not len(here):
                continue
            places = counted[n - 1].places
            low, high = np.searchsorted(places, [start, start + here.stops[-1]], sorter=order[n])
            entries = order[n][low:high]
            at = np.searchsorted(here.firsts, places[entries] - start)
            words[n][entries] = here.keys[at[:, None] + np.arange(n)]
            stops[n][entries] = start + here.stops[at + n - 1]
    return words, stops, totals


def rank(words: np.ndarray, counted: list[Counted], totals: dict[int, int]) -> np.ndarray:
    """Returns float64 [E], the mutual information of n-grams.

    With p the share of an n-gram among all of its length, it is the least over all ways to divide the n-gram w into two
    parts or more of `log p(w)**2 / product of p(part)`: what is said by chance can be divided so that little is gained.

    Args:
        words: uint64 [E, n], the keys of their words.
        counted: the n-grams of every length up to n.
        totals: {n: n-grams of that length in all}.
    """
    num, n = words.shape
    logs = np.zeros((n + 1, n + 1, num))  # of the words from i to j - 1
    for i in range(n):
        keys = words[:, i]
        for j in range(i + 1, n + 1):
            keys = keys if j == i + 1 else joint(keys, words[:, j - 1])
            size = j - i
            at = counted[size - 1].find(keys)
            assert (at >= 0).all()  # what is within a frequent n-gram is as frequent
            logs[i, j] = np.log(counted[size - 1].counts[at] / max(totals[size], 1))
    best = np.zeros((n + 1, num))  # the likeliest division of the first j words
    for j in range(1, n + 1):
        best[j] = np.max([best[i] + logs[i, j] for i in range(j) if j - i < n], axis=0)
    return 2 * logs[0, n] - best[n]


def _texts(split: Split, vocab: Vocabulary, ranges: np.ndarray, keys: np.ndarray) -> tuple[list[str], list[bool]]:
    """Returns n-grams as text, words separated by spaces, and whether each is the same when it is read again."""
    rows = []
    for start, stop in ranges.tolist():
        own = split.tokens(start, stop).astype(np.int64)
        words = words_of(own, np.array([0, len(own)]), vocab)
        bounds = zip(words.firsts.tolist(), words.stops.tolist(), strict=True)
        rows.append([vocab.decode(own[first:last]).strip() for first, last in bounds])
    again, _ = keys_of_texts(rows, vocab)
    clean = [all(word and not any(map(str.isspace, word)) for word in row) for row in rows]
    return [" ".join(row) for row in rows], (np.array(clean, bool) & (again == keys)).tolist()


def write_collocations(path: Path, found: Iterable[Collocation]) -> None:
    """Writes a list as lines of collocation, count and PMI, separated by tabs; it appears when it is whole."""
    with write_output(path) as file:
        file.write((HEADER + "\n").encode())
        for one in found:
            file.write(f"{one.text}\t{one.count}\t{one.pmi:.4f}\n".encode())


def read_collocations(path: Path) -> list[str]:
    """Reads the collocations of a list; of other lists, too, with one a line before the first tab.

    Raises:
        DataError: there is no file, it is not UTF-8, or a line is no collocation.
    """
    try:
        content = read_bounded(path, LARGE, streams=True)
    except OSError as error:
        fix = "make one with taskmask collocations --data DIR --out FILE"
        what = f"cannot read the list of collocations: {error.strerror}"
        raise DataError(what, where=str(path), fix=fix) from error
    lines = decode(content, str(path), 1).split("\n")
    texts = []
    for number, line in enumerate(lines, 1):
        if (number == 1 and line == HEADER) or (number == len(lines) and not line):
            continue
        text = line.split("\t")[0]
        if len(text.split()) < 2:
            expected = "two words or more, separated by spaces, then perhaps a tab and more"
            raise DataError(f"{text[:40]!r} is no collocation", where=f"{path}:{number}", expected=expected)
        texts.append(text)
    return texts
