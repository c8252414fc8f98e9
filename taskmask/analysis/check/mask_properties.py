"""The laws that one mask keeps or breaks: what it may choose, what it must leave alone, whole words, exact budgets.

Every law here is a function (bench, case) -> what is wrong first, or None; a smaller case can be put to it as well.

Shapes: B rows, T tokens in the longest row, K views.
"""

from __future__ import annotations

import contextlib
import dataclasses
import io
from collections.abc import Callable

import numpy as np

from taskmask.analysis.check.bench import Bench, Unfit, Wrong, misshapen, ruled_out
from taskmask.analysis.check.cases import Case
from taskmask.data.batch import TokenBatch


def runs(bench: Bench, case: Case) -> Wrong | None:
    """It makes a mask of every row, of one without a token too."""
    masker = bench.made(case.options)
    try:
        bench.raw(bench.rows(case), case.rng(), masker)
    except Unfit as error:
        for row, line in enumerate(case.lines if len(case.lines) > 1 else ()):
            if alone := runs(bench, dataclasses.replace(case, lines=(line,))):
                return Wrong(row, None, alone.says)
        return Wrong(0, None, str(error))
    return None


def shape(bench: Bench, case: Case) -> Wrong | None:
    """It returns bool [K, B, T], or [B, T] for one view."""
    masker, rows = bench.made(case.options), bench.rows(case)
    says = misshapen(bench.raw(rows, case.rng(), masker), rows, masker)
    return Wrong(0, None, says) if says else None


def specials(bench: Bench, case: Case) -> Wrong | None:
    """It chooses no special piece and no padding."""
    rows, mask = _well_shaped(bench, case)
    special = bench.vocab.is_special[rows.tokens]
    return _first(mask & special, lambda row, at: "padding is masked" if not rows.keep[row, at] else "it is masked")


def lists(bench: Bench, case: Case) -> Wrong | None:
    """It chooses no piece that is not maskable because `masker.never` names it."""
    ordinary = np.flatnonzero(~bench.vocab.is_special)
    rows, mask = _well_shaped(bench, case, np.array([id for id in ordinary.tolist() if id % 3 == 0]))
    special = bench.vocab.is_special[rows.tokens]
    return _first(mask & ~rows.maskable & ~special, lambda row, at: "it is masked though masker.never names it")


def untouched(bench: Bench, case: Case) -> Wrong | None:
    """It changes nothing of the rows that it is given."""
    rows = bench.rows(case)
    before = {name: array.copy() for name, array in _arrays(rows).items()}
    bench.raw(rows, case.rng(), bench.made(case.options), copied=False)
    for name, array in _arrays(rows).items():
        if array.shape != before[name].shape:
            return Wrong(0, None, f"it changes {name}")
        if changed := np.argwhere(array != before[name]).tolist():
            return Wrong(changed[0][0], changed[0][1] if array.ndim > 1 else None, f"it changes {name}")
    return None


def silent(bench: Bench, case: Case) -> Wrong | None:
    """It prints nothing: standard output belongs to the command, and may hold JSON."""
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        bench.raw(bench.rows(case), case.rng(), bench.made(case.options))
    line, *more = printed.getvalue().splitlines() or [""]
    return Wrong(0, None, f"it prints {line[:60]!r}{' and more' if more else ''}") if printed.getvalue() else None


def whole_words(bench: Bench, case: Case) -> Wrong | None:
    """Of the maskable tokens of a word it chooses all or none."""

    def word(row: int, at: int) -> str:
        pieces = bench.vocab.pieces(rows.tokens[row][rows.words[row] == rows.words[row, at]])
        return f"its word, {' '.join(pieces)}"

    rows, mask = _well_shaped(bench, case)
    mask = mask & rows.maskable
    of_word, chosen = _tokens_of_words(rows, mask)
    place = np.maximum(rows.words, 0)
    torn = np.stack([np.take_along_axis((n > 0) & (n < m), place, 1) for n, m in zip(chosen, of_word, strict=True)])
    return _first(torn & rows.maskable & ~mask, lambda row, at: f"it is not masked, unlike others of {word(row, at)}")


def torn_words(bench: Bench, case: Case) -> tuple[int, int]:
    """Returns how many words of several tokens are masked in part, and how many are masked at all."""
    rows, mask = _well_shaped(bench, case)
    of_word, chosen = _tokens_of_words(rows, mask & rows.maskable)
    touched = (chosen > 0) & (of_word > 1)
    return int((touched & (chosen < of_word)).sum()), int(touched.sum())


def _tokens_of_words(batch: TokenBatch, mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns int [K, B, T], [K, B, T]: the maskable tokens of the word of number t, and those that are chosen."""
    word = np.maximum(batch.words, 0) + np.arange(len(batch.tokens))[:, None] * batch.shape[1]
    of_word = np.bincount(word[batch.maskable], minlength=word.size).reshape(word.shape)
    chosen = [np.bincount(word[view], minlength=word.size).reshape(word.shape) for view in mask]
    return np.broadcast_to(of_word, mask.shape), np.array(chosen)


def exact_budget(bench: Bench, case: Case) -> Wrong | None:
    """In every row it masks the share, rounded up or down."""
    return _off_by(bench, case, 0)


def budget_within_a_word(bench: Bench, case: Case) -> Wrong | None:
    """A row misses its share by less than its longest word."""
    return _off_by(bench, case, 1)


def _off_by(bench: Bench, case: Case, words: int) -> Wrong | None:
    rows, mask = bench.mask(case)
    masker = bench.made(case.options)
    share, always = masker.config.ratio_at(case.progress), bench.always(rows, masker)
    low, high = limits(share * (rows.maskable | always).sum(axis=1))
    room = words * np.maximum(longest_words(rows) - 1, 0)
    low, high = np.maximum(low - room, always.sum(axis=1)), np.maximum(high + room, always.sum(axis=1))
    found = mask.sum(axis=2)  # [K, B]
    wrong = np.argwhere((found < low) | (found > high)).tolist()
    if not wrong:
        return None
    view, row = wrong[0]
    expected = f"{low[row]}" if low[row] == high[row] else f"{low[row]} to {high[row]}"
    total = int((rows.maskable | always)[row].sum())
    return Wrong(row, None, f"{found[view, row]} of {total} tokens are masked; expected {expected}")


def limits(wanted: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns int [B], [B]: numbers of tokens rounded down and up; what rounding errors add counts for nothing."""
    return np.floor(wanted + 1e-9).astype(np.int64), np.ceil(wanted - 1e-9).astype(np.int64)


def longest_words(batch: TokenBatch) -> np.ndarray:
    """Returns int [B], the maskable tokens of the longest word of each row."""
    found = [
        np.bincount(words[maskable & (words >= 0)], minlength=1).max()
        for words, maskable in zip(batch.words, batch.maskable, strict=True)
    ]
    return np.array(found, np.int64)


def _well_shaped(bench: Bench, case: Case, never: np.ndarray | None = None) -> tuple[TokenBatch, np.ndarray]:
    """Returns rows, and what the policy itself chooses of them."""
    masker, rows = bench.made(case.options), bench.rows(case)
    rows = rows if never is None else ruled_out(rows, never)
    mask = bench.raw(rows, case.rng(), masker)
    if says := misshapen(mask, rows, masker):
        raise Unfit(says)
    return rows, mask


def _first(wrong: np.ndarray, says: Callable[[int, int], str]) -> Wrong | None:
    """Returns the first True of bool [K, B, T]."""
    if not wrong.any():
        return None
    _, row, at = np.argwhere(wrong)[0].tolist()
    return Wrong(row, at, says(row, at))


def _arrays(batch: TokenBatch) -> dict[str, np.ndarray]:
    """Returns all that a policy may read of rows."""
    own = {name: getattr(batch, name) for name in ("tokens", "lengths", "ids", "keep", "maskable", "words")}
    named = {f"rows.{name}": array for name, array in own.items()}
    return named | {f"column {name}": array for name, array in batch.columns.items()}
