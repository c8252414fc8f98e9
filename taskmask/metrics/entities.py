"""Entities in tagged sentences: precision, recall and F1 of whole entities.

Tags are `O`, or a prefix with a type, as in `B-PER`; bare prefixes are entities without a type. The rule is that of the
CoNLL-2000 and CoNLL-2003 shared tasks, which accepts IOB1, IOB2 (BIO), BIOES and BILOU (L is E, U is S) alike:

- `B` and `S` start an entity; `I` and `E` start one where none goes on: at the start of a sentence, after `O`, `E` or
  `S`, and after another type.
- An entity goes on until an `O`, the start of another, or the end of the sentence.

A tag of any other form is outside of entities. A guess is right if first word, last word and type are.

Source: Tjong Kim Sang and Buchholz, "Introduction to the CoNLL-2000 Shared Task: Chunking", section 3.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from itertools import chain
from typing import NamedTuple

import numpy as np

_TAG = re.compile(r"([BIESLU])(?:-(.*))?", re.DOTALL)
_OUTSIDE, _INSIDE, _LAST, _FIRST, _ALONE = range(5)
_KINDS = {"I": _INSIDE, "E": _LAST, "L": _LAST, "B": _FIRST, "S": _ALONE, "U": _ALONE}


class _Entities(NamedTuple):
    """By position in the flat tags, where an `O` stands after every sentence."""

    starts: np.ndarray  # bool: an entity starts here
    stops: np.ndarray  # and ends before this position
    types: np.ndarray  # its type, as a number


def has_entities(labels: Iterable[str]) -> bool:
    """Whether labels are those of entities: one has a prefix, or all are bare prefixes. Parts of speech are not."""
    names = set(labels)
    return any(name[:2] in ("B-", "I-", "S-", "U-") for name in names) or (
        names <= {*_KINDS, "O"} and bool(names & {"B", "I"})
    )


def entities_of(tags: Sequence[str]) -> set[tuple[str, int, int]]:
    """The entities of one sentence: (type, number of the first word, number of the last plus 1)."""
    types: dict[str, int] = {}
    found = _find([tags], types)
    names = list(types)
    return {(names[found.types[at]], int(at), int(found.stops[at])) for at in np.flatnonzero(found.starts)}


def entity_counts(truth: Sequence[Sequence[str]], guess: Sequence[Sequence[str]]) -> np.ndarray:
    """Counts entities by sentence.

    Args:
        truth: tags of each sentence.
        guess: tags guessed, as many.

    Returns:
        int64 [sentences, 3]: guessed rightly, guessed, true. Sums of rows are the counts of any choice of sentences.

    Raises:
        ValueError: the lengths differ.
    """
    lengths = [len(tags) for tags in truth]
    if lengths != [len(tags) for tags in guess]:
        raise ValueError("truth and guess have sentences of different lengths")
    types: dict[str, int] = {}
    true, guessed = _find(truth, types), _find(guess, types)
    right = true.starts & guessed.starts & (true.stops == guessed.stops) & (true.types == guessed.types)
    sentence = np.repeat(np.arange(len(lengths)), np.array(lengths, np.int64) + 1)
    chosen = (right, guessed.starts, true.starts)
    return np.stack([np.bincount(sentence[which], minlength=len(lengths)) for which in chosen], axis=1)


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


def _find(sentences: Sequence[Sequence[str]], types: dict[str, int]) -> _Entities:
    """The entities of all sentences; `types` learns the number of each type."""
    flat = list(chain.from_iterable((*tags, "O") for tags in sentences))
    codes = {tag: _read_tag(tag, types) for tag in dict.fromkeys(flat)}
    kind, type = np.array([codes[tag] for tag in flat], np.int64).reshape(-1, 2).T
    before, type_before = np.append(_OUTSIDE, kind)[:-1], np.append(-1, type)[:-1]
    goes_on = ((before == _FIRST) | (before == _INSIDE)) & (type == type_before)
    starts = (kind >= _FIRST) | ((kind != _OUTSIDE) & ~goes_on)
    bounds = np.flatnonzero(starts | (kind == _OUTSIDE))
    stops = np.zeros(len(flat), np.int64)
    at = np.flatnonzero(starts)
    stops[at] = bounds[np.searchsorted(bounds, at, side="right")]
    return _Entities(starts, stops, type)


def _read_tag(tag: str, types: dict[str, int]) -> tuple[int, int]:
    match = _TAG.fullmatch(tag)
    return (_KINDS[match[1]], types.setdefault(match[2] or "", len(types))) if match else (_OUTSIDE, -1)
