"""Entities in tagged sentences: precision, recall and F1 of whole entities.

The rule is that of the CoNLL-2000 and CoNLL-2003 shared tasks, over the roles that `tag_schemes` gives to the labels:

- A first word, and an entity of one word, start an entity. A word inside of one, and a last word, start one if none
  continues: at the start of a sentence, after a word outside, after a last word, and after another type.
- An entity continues until a word outside, the start of another entity, or the end of the sentence.

A guess is right if its first word, last word and type are. On valid tags of IOB2, IOE2, IOBES and BILOU these are the
entities of seqeval's strict mode. Tags that break their scheme, as a model may guess them, are read as conlleval does:
an `I-PER` after `O` starts an entity.

Source: Tjong Kim Sang and Buchholz, "Introduction to the CoNLL-2000 Shared Task: Chunking", section 3.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from taskmask.metrics.tag_schemes import ALONE, FIRST, INSIDE, OUTSIDE, Scheme
from taskmask.stats.limits import Limits


class _Entities(NamedTuple):
    """By word."""

    starts: np.ndarray  # bool: an entity starts here
    stops: np.ndarray  # and ends before this word
    types: np.ndarray  # the index of its type


def entities_of(labels: Sequence[int] | np.ndarray, scheme: Scheme) -> list[tuple[str, int, int]]:
    """The entities of one sentence, in order: (type, first word, last word plus 1).

    Args:
        labels: the label of each word, as an index of `scheme.names`.
        scheme: their reading.
    """
    values = np.asarray(labels, np.int64)
    found = _find(values, np.zeros(len(values), np.int64), scheme)
    at = np.flatnonzero(found.starts)
    return [
        (scheme.types[type], start, stop)
        for type, start, stop in zip(found.types[at].tolist(), at.tolist(), found.stops[at].tolist(), strict=True)
    ]


def entity_counts(truth: np.ndarray, guess: np.ndarray, sentence: np.ndarray, size: int, scheme: Scheme) -> np.ndarray:
    """Counts entities by sentence.

    Args:
        truth: the label of each word of all sentences, int [N].
        guess: the labels guessed, int [N].
        sentence: the sentence of each word, int [N], 0 to `size` - 1; the words of a sentence are in a row.
        size: number of sentences.
        scheme: the reading of the labels.

    Returns:
        int64 [size, 3]: guessed rightly, guessed, true. Sums of rows are the counts of any choice of sentences.

    Raises:
        ValueError: the lengths differ.
    """
    if not len(truth) == len(guess) == len(sentence):
        raise ValueError("truth, guess and sentence have different lengths")
    true, guessed = _find(truth, sentence, scheme), _find(guess, sentence, scheme)
    right = true.starts & guessed.starts & (true.stops == guessed.stops) & (true.types == guessed.types)
    chosen = (right, guessed.starts, true.starts)
    return np.stack([np.bincount(sentence[which], minlength=size) for which in chosen], axis=1)


def f1_of(counts: np.ndarray) -> dict[str, float]:
    """Precision, recall and F1 of all sentences together; 0 where undefined, as in CoNLL.

    Args:
        counts: int [..., 3], of `entity_counts`.

    Returns:
        "precision", "recall", "f1".
    """
    right, guessed, true = np.asarray(counts).reshape(-1, 3).sum(axis=0).tolist()
    return {
        "precision": right / guessed if guessed else 0.0,
        "recall": right / true if true else 0.0,
        "f1": 2 * right / (guessed + true) if right else 0.0,
    }


def entity_limits(counts: np.ndarray) -> dict[str, Limits]:
    """Between which values the metrics of `f1_of` lie; they rest on the sentences that have entities.

    Args:
        counts: int [sentences, 3], of `entity_counts`.
    """
    _, guessed, true = np.count_nonzero(counts, axis=0).tolist()
    return {"precision": Limits(0, 1, guessed), "recall": Limits(0, 1, true), "f1": Limits(0, 1, true)}


def _find(labels: np.ndarray, sentence: np.ndarray, scheme: Scheme) -> _Entities:
    """The entities of all sentences."""
    roles, types = scheme.roles[labels], scheme.type_ids[labels]
    begins = np.ones(len(labels), bool)  # a sentence begins here
    begins[1:] = sentence[1:] != sentence[:-1]
    before, type_before = np.roll(roles, 1), np.roll(types, 1)
    continues = ~begins & ((before == FIRST) | (before == INSIDE)) & (types == type_before)
    starts = (roles == FIRST) | (roles == ALONE) | ((roles != OUTSIDE) & ~continues)
    bounds = np.append(np.flatnonzero(starts | begins | (roles == OUTSIDE)), len(labels))
    stops = np.zeros(len(labels), np.int64)
    at = np.flatnonzero(starts)
    stops[at] = bounds[np.searchsorted(bounds, at, side="right")]
    return _Entities(starts, stops, types)
