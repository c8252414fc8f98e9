"""How much the words of a labelled text matter to a classifier: what a masking policy can be learned from.

Shapes: B rows, T tokens in the longest row, N texts: rows, or sentences of rows; A of them that are looked at.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from itertools import pairwise
from typing import Any, Literal

import numpy as np

from taskmask.config import Problems, opt
from taskmask.config.settings import DataSettings
from taskmask.data.batch import Batch, TokenBatch
from taskmask.data.compact import by_length, compact
from taskmask.data.dataset import Column, Dataset, Split
from taskmask.data.sequences.base import Examples, Source
from taskmask.masking.sentences import content_words, sentence_numbers
from taskmask.registry import register_task
from taskmask.tasks.base import Ask
from taskmask.tasks.classification import Classification, ClassificationConfig

NAMES = {"important": ["plain", "important"], "use": ["used", "misclassified", "unsure", "unlabelled"]}
USED, MISCLASSIFIED, UNSURE, UNLABELLED = range(4)


@dataclasses.dataclass(frozen=True)
class WordImportanceConfig(ClassificationConfig):
    """How a text is taken apart, and from where on a word is important."""

    delta: float = opt(0.05, "important: P(y|s) - P(y|buffer + word) below this (delta)")
    guard: bool = opt(True, "leave out texts that the classifier is hardly sure of, or as sure without a word")
    margin: float = opt(0.1, "guard: P(y|s) must be above chance, or that of an empty text, by delta and this")
    unit: Literal["token", "word"] = opt("token", "what is added to the buffer, and dropped from it, at once")
    sentences: bool = opt(True, "each sentence for itself, where there is one text; false: the whole text")

    def __post_init__(self) -> None:
        problems = Problems()
        problems.check(self.margin >= 0, f"is {self.margin}", where="task.margin", expected="0 or more")
        problems.check(-1 < self.delta <= 1, f"is {self.delta}", where="task.delta", expected="above -1, at most 1")
        problems.raise_any()


@dataclasses.dataclass(frozen=True)
class Texts:
    """Texts that are taken apart: rows of a dataset, or sentences of them.

    Args:
        rows: the rows.
        row: int64 [N], the row that each text is a part of.
        mine: bool [N, T], its tokens in that row.
        fixed: bool [N, T], what stands around it whatever is left of it: `<s>`, `</s>`, a second text.
        gold: int64 [N], its label.
    """

    rows: TokenBatch
    row: np.ndarray
    mine: np.ndarray
    fixed: np.ndarray
    gold: np.ndarray

    def take(self, index: np.ndarray) -> Texts:
        """Returns some of them."""
        return Texts(self.rows, self.row[index], self.mine[index], self.fixed[index], self.gold[index])

    def spread(self, values: np.ndarray) -> np.ndarray:
        """Returns the values [N, T] of their tokens at the places in the rows, float64 [B, T]; NaN elsewhere."""
        spread = np.full(self.rows.shape, np.nan)
        number, place = np.nonzero(self.mine)
        spread[self.row[number], place] = values[number, place]
        return spread


@register_task("word_importance", config=WordImportanceConfig)
class WordImportance(Classification):
    """Scores the words of labelled texts by what a classifier makes of them; for `taskmask annotate`.

    The words of a text are added one after the other to a buffer, which is empty at first. The score of a word is
    S(w) = P(y|s) - P(y|buffer + w), where y is the label of the text s. Below delta the word is important, and is taken
    out of the buffer again; else it stays. So a word is important that makes the classifier about as sure as the whole
    text does, behind words that say nothing: of several words that say the same, each.

    Texts that have no label, or that the classifier gets wrong, are left out: their tokens have no label (-1) and no
    score (NaN). So are, by the guard, those of which it is hardly surer than by chance (or than of an empty text, where
    that is less), and those of which it is as sure, up to delta, as of an empty text, where more than half would be
    important, since any word will do. Of a text with several second texts (aspects), a row each, a word is important if
    it is for one of them; its score is the lowest: the lower a score, the more its word matters.

    **Source:** Gu et al. 2020 (arXiv 2004.09733), section 3.2, equation 1; delta is 0.05 there, 0.01 in the authors'
    code. Differs from that code: what is left out has no label, instead of the label "not important"; the guard; whole
    words as an option; stop words are not left out, since they hold "not".
    """

    config: WordImportanceConfig

    def __init__(self, config: Any, vocab: Any, masker: Any, labels: dict[str, list[str]]):
        super().__init__(config, vocab, masker, labels)
        self._texts: dict[str, np.ndarray] = {}  # of each split what `first_texts` gives, made once

    def annotations(self) -> dict[str, Column]:
        """For each token: whether it is important, its score S(w), and whether its text was used, or why not."""
        return {
            "important": Column("aligned", "int32", of="tokens"),
            "score": Column("aligned", "float32", of="tokens"),
            "use": Column("aligned", "int32", of="tokens"),
        }

    def names_of(self, what: str) -> list[str] | None:
        """The names of the decision, and of what was used."""
        return NAMES.get(what)

    def examples(self, split: Split, data: DataSettings, dataset: Dataset, labelled: bool) -> Examples:
        """The stored rows with their labels, without which no word is important for anything."""
        return super().examples(split, data, dataset, labelled=True)

    def annotate_rows(
        self, ask: Ask, source: Source, ids: np.ndarray, what: tuple[str, ...], max_tokens: int, advance: Callable
    ) -> dict[str, list[np.ndarray]]:
        """Returns the values of rows, those of the same text with other aspects looked at too."""
        asked, group = self.siblings(source.split, ids) if self.config.pair else (ids, np.arange(len(ids)))
        rows, left = source[asked], int(source.lengths[ids].sum())

        def looked_at(tokens: int) -> None:
            nonlocal left
            advance(min(tokens, left))
            left -= min(tokens, left)

        score, use = (lowest_of_groups(values, group) for values in self.look(ask, rows, max_tokens, looked_at))
        important = np.where(np.isnan(score), -1, score < self.config.delta)
        advance(left)
        mine = np.searchsorted(asked, ids)
        values = {"score": score[mine], "important": important[mine], "use": np.nan_to_num(use[mine], nan=-1)}
        return {name: list(values[name]) for name in what}

    def siblings(self, split: Split, ids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Returns all rows with the same first text as one of `ids`, rising, and the number of the text of each."""
        key = str(split.folder / split.name)
        if key not in self._texts:
            self._texts[key] = first_texts(split, self.vocab.eos)
        group = self._texts[key]
        asked = np.flatnonzero(np.isin(group, group[ids]))
        return asked, group[asked]

    def scores(self, ask: Ask, rows: TokenBatch, max_tokens: int) -> np.ndarray:
        """Returns S(w), float64 [B, T]; NaN at what is no text, and in what is left out."""
        return self.look(ask, rows, max_tokens)[0]

    def look(
        self, ask: Ask, rows: TokenBatch, max_tokens: int, advance: Callable[[int], Any] = lambda tokens: None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Returns S(w) and the number of its text's use, float64 [B, T] both; NaN at what is no text."""
        every = self.apart(rows)
        sure, right = self.chances(ask, every, every.mine | every.fixed, max_tokens)
        use = np.where(every.gold < 0, UNLABELLED, np.where(right, USED, MISCLASSIFIED))
        empty = np.full(len(use), -np.inf)
        if self.config.guard:
            empty, _ = self.chances(ask, every, every.fixed, max_tokens)
            # an empty text is of some class too, often for certain: not all texts of that class are to go
            floor = np.minimum(empty, 1 / len(self.class_names))
            use[right & (sure < floor + self.config.delta + self.config.margin)] = UNSURE
        looked_at = np.flatnonzero(use == USED)
        texts, sure = every.take(looked_at), sure[looked_at]
        units = content_words(rows)[texts.row] if self.config.unit == "word" else np.cumsum(texts.mine, axis=1)
        found = self.grow(ask, texts, _from_zero(units, texts.mine), sure, max_tokens, advance)
        says_all = sure - empty[looked_at] < self.config.delta  # without a word, too
        by_any = says_all & ((found < self.config.delta).sum(axis=1) > texts.mine.sum(axis=1) / 2)
        use[looked_at[by_any]], found[by_any] = UNSURE, np.nan
        return texts.spread(found), every.spread(np.broadcast_to(use[:, None], every.mine.shape))

    def apart(self, rows: TokenBatch) -> Texts:
        """Takes rows apart into the texts that are looked at."""
        is_text = content_words(rows) >= 0
        if "segments" in rows.columns:
            is_text &= rows.columns["segments"] == 0
        parts = sentence_numbers(rows) if self.config.sentences and not self.config.pair else np.zeros(rows.shape, int)
        parts = np.where(is_text, parts, -1)
        row, number = np.nonzero(np.arange(parts.max(initial=-1) + 1) <= parts.max(axis=1, initial=-1)[:, None])
        fixed = rows.keep & ~is_text
        return Texts(rows, row, parts[row] == number[:, None], fixed[row], rows.columns[self.config.label][row])

    def chances(self, ask: Ask, texts: Texts, kept: np.ndarray, max_tokens: int) -> tuple[np.ndarray, np.ndarray]:
        """Asks the classifier for texts of which only some tokens are kept.

        Args:
            ask: gives the outputs of the model.
            texts: the texts.
            kept: bool [N, T].
            max_tokens: of a batch.

        Returns:
            float64 [N], the probability of the label of each; bool [N], whether it is the likeliest.
        """
        sure, right = np.zeros(len(kept)), np.zeros(len(kept), bool)
        tokens, segments = texts.rows.tokens, texts.rows.columns.get("segments")
        for some in by_length(kept.sum(axis=1), max_tokens):
            row, left = texts.row[some], kept[some]
            lengths = left.sum(axis=1)
            inputs: dict[str, Any] = {"tokens": compact(tokens[row], left, self.vocab.pad)}
            if lengths.min() < lengths.max():
                inputs["keep"] = np.arange(lengths.max()) < lengths[:, None]
            if segments is not None:
                inputs["segments"] = compact(segments[row], left, 0)
            outputs, _ = ask(Batch(inputs, {}, texts.rows.ids[row], int(lengths.sum())))
            logits = outputs["label"].double()
            chances = logits.softmax(-1).cpu().numpy()
            sure[some] = chances[np.arange(len(some)), texts.gold[some]]
            right[some] = chances.argmax(-1) == texts.gold[some]
        return sure, right

    def grow(
        self,
        ask: Ask,
        texts: Texts,
        units: np.ndarray,
        sure: np.ndarray,
        max_tokens: int,
        advance: Callable[[int], Any],
    ) -> np.ndarray:
        """Adds the units of every text to its buffer, one after the other, those of all texts at once.

        Args:
            ask: gives the outputs of the model.
            texts: the texts.
            units: int [N, T], the unit of each token, from 0; -1 where it has none.
            sure: float [N], P(y|s).
            max_tokens: of a batch.
            advance: called with the tokens of each pass that were added.

        Returns:
            float64 [N, T], the score of each token's unit; NaN where it has none.
        """
        scores, kept = np.full(units.shape, np.nan), texts.fixed.copy()
        last = units.max(axis=1, initial=-1)
        for unit in range(int(last.max(initial=-1)) + 1):
            active = np.flatnonzero(last >= unit)
            here = units[active] == unit
            now, _ = self.chances(ask, texts.take(active), kept[active] | here, max_tokens)
            whole = (~texts.mine[active] | kept[active] | here).all(axis=1)
            score = np.where(whole, 0.0, sure[active] - now)  # and nothing of how numbers are rounded
            scores[active] = np.where(here, score[:, None], scores[active])
            kept[active] |= here & (score >= self.config.delta)[:, None]
            advance(int(here.sum()))
        return scores


def _from_zero(units: np.ndarray, inside: np.ndarray) -> np.ndarray:
    """Returns units that begin with 0 in each text; -1 outside of it."""
    first = np.where(inside, units, units.max(initial=0)).min(axis=1, initial=units.max(initial=0))
    return np.where(inside, units - first[:, None], -1)


def first_texts(split: Split, eos: int) -> np.ndarray:
    """Returns the number of the first text of each row, int64 [rows], whole and without the `</s>` that closes it."""
    values, known = split.values("tokens"), dict[bytes, int]()
    group = np.empty(split.rows, np.int64)
    for row, (start, stop) in enumerate(pairwise(split.offsets("tokens").tolist())):
        text = values[start:stop]
        closes = len(text) > 0 and text[-1] == eos
        group[row] = known.setdefault(text[: len(text) - closes].tobytes(), len(known))
    return group


def lowest_of_groups(scores: np.ndarray, group: np.ndarray) -> np.ndarray:
    """Returns scores [B, T] with, in every row, the lowest of the rows of its group [B]; NaN counts nowhere."""
    order = np.argsort(group, kind="stable")
    starts = np.flatnonzero(np.diff(group[order], prepend=-1))
    filled = np.where(np.isnan(scores), np.inf, scores)[order]
    lowest = np.minimum.reduceat(filled, starts, axis=0)[np.cumsum(np.diff(group[order], prepend=-1) != 0) - 1]
    found = np.empty_like(scores)
    found[order] = np.where(np.isinf(lowest), np.nan, lowest)
    return found
