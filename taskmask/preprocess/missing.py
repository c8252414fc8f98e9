"""Marks that say that there is no label: which of the names in a column are no class.

An empty field, `null` and NaN (among numbers also `nan`) are never a class, nor is -100, the index that the losses of
PyTorch ignore. The other marks may be real classes: -1 beside 0 and 1 in sentiment, or `-`, `_` and `?` among the tags
of punctuation. Their meaning is found out from the other names, and from the split train; `--missing-label` says it
instead.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping

from taskmask.metrics.tag_schemes import OUTSIDE_TAGS, scheme_of

NONE = ""  # the name that an empty field or null gets
IGNORED, NUMBER, SIGNS = "-100", "-1", ("-", "_", "?")
DOUBTFUL = (NUMBER, *SIGNS)  # classes in some columns, and none in others
RARE = 10  # how many times as frequent as -1 the classes 0 and 1 must be, if -1 is to be none
Counts = Mapping[str, Mapping[str, int]]  # split -> name -> rows (of tags: words) that have it


def missing_labels(
    counts: Counts, asked: Collection[str] | None = None, of_words: bool = False, are_numbers: bool = False
) -> set[str]:
    """Returns the names in a column that mean that there is no label.

    Args:
        counts: how often each name occurs in each split.
        asked: the marks that somebody named; None: they are found out.
        of_words: whether the labels are those of words.
        are_numbers: whether the labels are known to be whole numbers from 0.
    """
    total: Counter[str] = Counter()
    for split in counts.values():
        total.update(split)
    names = {name for name, number in total.items() if number}
    missing = {name for name in names if not name.strip() or name == "NaN"}
    if "nan" in names and all(_is_number(name) for name in names - missing - {"nan", *SIGNS}):
        missing.add("nan")
    if asked is not None:
        return missing | (names & set(asked))
    missing |= names & ({IGNORED, *DOUBTFUL} if are_numbers else {IGNORED})
    train = {name: number for name, number in counts.get("train", total).items() if number and name not in missing}
    others = {name: number for name, number in train.items() if name not in DOUBTFUL}
    return missing | {
        mark
        for mark in (names & set(DOUBTFUL)) - missing
        if not (_is_sign_class(mark, others, train, of_words) if mark in SIGNS else _is_number_class(others, train))
    }


def _is_number_class(others: dict[str, int], train: dict[str, int]) -> bool:
    """Whether -1 is a class beside these others: the numbers of the split train are negative, too, or it alone is left.

    They are so in {-2, -1, 0, 1, 2}, and in {-1, 0, 1} unless -1 is rare.
    """
    if any(_is_number(name) and name.startswith("-") for name in others):
        return True
    here = train.get(NUMBER, 0)
    if not here or len(others) < 2:
        return bool(here)
    return set(others) == {"0", "1"} and here * RARE > min(others.values())


def _is_sign_class(mark: str, others: dict[str, int], train: dict[str, int], of_words: bool) -> bool:
    """Whether a sign is a class beside these others of the split train: one of several signs, or one of two classes.

    As a tag of more than half of all words it says that they are none of the others, as `O` does. Beside tags of
    entities, of which no other is outside of entities, it is their `O`, however many words have it.
    """
    if of_words and mark in OUTSIDE_TAGS and not OUTSIDE_TAGS & set(others) and scheme_of(sorted(others)).has_entities:
        return True
    if any(not any(map(str.isalnum, name)) for name in others):
        return True
    here = train.get(mark, 0)
    return bool(here) and (len(others) < 2 or (of_words and here * 2 > sum(train.values())))


def _is_number(name: str) -> bool:
    digits = name.removeprefix("-")
    return digits.isascii() and digits.isdigit()


def missing_numbers(asked: Collection[str] | None) -> frozenset[str | float]:
    """Returns the numbers, and the texts, that somebody said to mean that there is no number."""
    marks: set[str | float] = set(asked or ())
    for mark in asked or ():
        try:
            marks.add(float(mark))
        except ValueError:
            continue
    return frozenset(marks)


def splits_without_numbers(ranges: Mapping[str, tuple[float, float]], asked: Collection[str] | None) -> list[str]:
    """Returns the splits of which every number is -1, which the split train does not go down to, as those of GLUE.

    Args:
        ranges: split -> the smallest and the largest number.
        asked: the marks that somebody named, if any: then there is none but those.
    """
    low, _ = ranges.get("train", (-1.0, -1.0))
    return [split for split, ends in ranges.items() if asked is None and ends == (-1.0, -1.0) and low >= 0]
