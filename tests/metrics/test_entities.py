"""Entities are those of the CoNLL shared tasks: an own reading of the rule, and seqeval."""

import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from taskmask.metrics.entities import entities_of, entity_counts, f1_of, has_entities

tags = st.sampled_from(["O", "O", *(f"{prefix}-{type}" for prefix in "BIES" for type in ("X", "Y-Z"))])
sentences = st.lists(st.lists(st.tuples(tags, tags), max_size=12), max_size=6)


def slow_entities(tags):
    """Word by word, after the tables of the task: which pairs of tags start, and which end, an entity."""
    found, start = set(), None
    before, type_before = "O", ""
    for at, tag in enumerate([*tags, "O"]):
        prefix, _, type = tag.partition("-")
        ends = before != "O" and (
            (before + prefix) in ("BB", "BS", "BO", "IB", "IS", "IO") or before in "ES" or type_before != type
        )
        starts = prefix != "O" and (
            prefix in "BS" or (before + prefix) in ("EE", "EI", "SE", "SI", "OE", "OI") or type_before != type
        )
        if ends:
            found.add((type_before, start, at))
        if starts:
            start = at
        before, type_before = prefix, type
    return found


@settings(max_examples=150, deadline=None)
@given(sentences)
def test_as_the_tables_and_as_seqeval(pairs):
    truth = [[tag for tag, _ in sentence] for sentence in pairs]
    guess = [[tag for _, tag in sentence] for sentence in pairs]
    for tags in truth:
        assert entities_of(tags) == slow_entities(tags)
    counts = entity_counts(truth, guess)
    slow = [(slow_entities(a), slow_entities(b)) for a, b in zip(truth, guess, strict=True)]
    assert counts.tolist() == [[len(a & b), len(b), len(a)] for a, b in slow]

    seqeval = pytest.importorskip("seqeval.metrics")
    if not any(truth):
        return
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of what is undefined
        expected = {
            "precision": seqeval.precision_score(truth, guess),
            "recall": seqeval.recall_score(truth, guess),
            "f1": seqeval.f1_score(truth, guess),
        }
    assert f1_of(counts) == pytest.approx(expected)


@pytest.mark.parametrize("tags", [
    "B-PER I-PER O B-LOC B-LOC",  # IOB2
    "I-PER I-PER O I-LOC B-LOC",  # IOB1
    "B-PER E-PER O S-LOC S-LOC",  # BIOES
    "B-PER L-PER O U-LOC U-LOC",  # BILOU
    "I-PER E-PER . I-LOC S-LOC",  # mixed, with a tag of no form
])  # fmt: skip
def test_the_same_entities_in_every_scheme(tags):
    assert entities_of(tags.split()) == {("PER", 0, 2), ("LOC", 3, 4), ("LOC", 4, 5)}


def test_changes_of_type_and_bare_prefixes():
    assert entities_of(["I-A", "I-B", "E-B", "E-B"]) == {("A", 0, 1), ("B", 1, 3), ("B", 3, 4)}
    assert entities_of(["B", "I", "O", "I"]) == {("", 0, 2), ("", 3, 4)}
    assert entities_of([]) == set() == entities_of(["O", "NN", "-LRB-", "B2-x"])


def test_entities_end_with_their_sentence():
    counts = entity_counts([["B-X", "I-X"], ["I-X"], []], [["B-X", "I-X"], ["O"], []])
    assert counts.tolist() == [[1, 1, 1], [0, 0, 1], [0, 0, 0]]
    assert f1_of(counts) == {"precision": 1, "recall": 0.5, "f1": pytest.approx(2 / 3)}
    assert f1_of(counts[[0, 0]])["f1"] == 1 and f1_of(counts[2]) == {"precision": 0, "recall": 0, "f1": 0}
    assert entity_counts([], []).shape == (0, 3)
    with pytest.raises(ValueError, match="lengths"):
        entity_counts([["O"]], [["O", "O"]])


@pytest.mark.parametrize("labels, expected", [
    (["O", "B-PER"], True), (["I-PER", "O"], True), (["S-X", "O"], True), (["B", "I", "O"], True),
    (["NN", "VB", "-LRB-", "I"], False), (["O"], False), ([], False), (["0", "1"], False),
])  # fmt: skip
def test_has_entities(labels, expected):
    assert has_entities(labels) == expected


def test_many_sentences_are_counted_at_once():
    random = np.random.default_rng(0)
    names = np.array(["O", "B-X", "I-X", "B-Y", "I-Y"])
    truth = [names[random.integers(5, size=20)].tolist() for _ in range(2000)]
    counts = entity_counts(truth, truth)
    assert f1_of(counts) == {"precision": 1, "recall": 1, "f1": 1} and counts.sum() > 10_000
