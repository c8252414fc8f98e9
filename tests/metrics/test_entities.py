"""Entities are those of the CoNLL shared tasks: an own reading of the rule, and values of seqeval."""

import numpy as np
import pytest
from entities_help import counts, entities
from hypothesis import given, settings
from hypothesis import strategies as st

from taskmask.metrics.entities import entity_counts, f1_of
from taskmask.metrics.tag_schemes import scheme_of

NAMES = ["O", *(f"{prefix}-{type}" for prefix in "BIES" for type in ("X", "Y-Z"))]
tags = st.sampled_from(["O", *NAMES])
sentences = st.lists(st.lists(st.tuples(tags, tags), max_size=12), max_size=6)


def slow_entities(tags):
    """Word by word, after the tables of the task: which pairs of tags start, and which end, an entity."""
    found, start = [], None
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
            found.append((type_before, start, at))
        if starts:
            start = at
        before, type_before = prefix, type
    return found


@settings(max_examples=150, deadline=None)
@given(sentences)
def test_as_the_tables_of_the_shared_task(pairs):
    truth = [[tag for tag, _ in sentence] for sentence in pairs]
    guess = [[tag for _, tag in sentence] for sentence in pairs]
    for tags in truth:
        assert entities(tags, NAMES) == slow_entities(tags)
    slow = [(set(slow_entities(a)), set(slow_entities(b))) for a, b in zip(truth, guess, strict=True)]
    assert counts(truth, guess, NAMES).tolist() == [[len(a & b), len(b), len(a)] for a, b in slow]


SPELLINGS = {  # the same truth and the same guess; the guess joins the two entities LOC
    "IOB1": ("I-PER I-PER O I-LOC B-LOC I-LOC I-PER O", "I-PER I-PER O I-LOC I-LOC I-LOC I-PER O"),
    "IOB2": ("B-PER I-PER O B-LOC B-LOC I-LOC B-PER O", "B-PER I-PER O B-LOC I-LOC I-LOC B-PER O"),
    "IOE1": ("I-PER I-PER O E-LOC I-LOC I-LOC I-PER O", "I-PER I-PER O I-LOC I-LOC I-LOC I-PER O"),
    "IOE2": ("I-PER E-PER O E-LOC I-LOC E-LOC E-PER O", "I-PER E-PER O I-LOC I-LOC E-LOC E-PER O"),
    "IOBES": ("B-PER E-PER O S-LOC B-LOC E-LOC S-PER O", "B-PER E-PER O B-LOC I-LOC E-LOC S-PER O"),
    "BILOU": ("B-PER L-PER O U-LOC B-LOC L-LOC U-PER O", "B-PER L-PER O B-LOC I-LOC L-LOC U-PER O"),
    "BMES": ("B-PER E-PER O S-LOC B-LOC E-LOC S-PER O", "B-PER E-PER O B-LOC M-LOC E-LOC S-PER O"),
    "BMEWO": ("B-PER E-PER O W-LOC B-LOC E-LOC W-PER O", "B-PER E-PER O B-LOC M-LOC E-LOC W-PER O"),
}


def respelled(text, spelling):
    """Tags as other people write them."""
    tags = [tag.partition("-")[::2] for tag in text.split()]
    write = {
        "-": lambda prefix, type: f"{prefix}-{type}" if type else prefix,
        "lower": lambda prefix, type: f"{prefix}-{type}".lower() if type else "o",
        "_": lambda prefix, type: f"{prefix}_{type}" if type else "_",
        "suffix": lambda prefix, type: f"{type}-{prefix}" if type else prefix,
        "_ suffix": lambda prefix, type: f"{type}_{prefix}" if type else "-",
        "dashes": lambda prefix, type: f"{prefix}-work-of-{type}_art" if type else prefix,
        "dashes, suffix": lambda prefix, type: f"{type}_work-of-art-{prefix}" if type else prefix,
    }[spelling]
    return [write(prefix, type) for prefix, type in tags]


@pytest.mark.parametrize("spelling", ["-", "lower", "_", "suffix", "_ suffix", "dashes", "dashes, suffix"])
@pytest.mark.parametrize("scheme", SPELLINGS)
def test_the_same_entities_in_every_scheme_and_spelling(scheme, spelling):
    """seqeval 1.2.2 says 2/3, 1/2 and 4/7: strict mode for IOB2, IOE2, IOBES and BILOU, else the default mode."""
    truth, guess = (respelled(text, spelling) for text in SPELLINGS[scheme])
    names = sorted({*truth, *guess})
    assert [(start, stop) for _, start, stop in entities(truth, names)] == [(0, 2), (3, 4), (4, 6), (6, 7)]
    types = [type for type, _, _ in entities(truth, names)]
    assert types[0] == types[3] != types[1] == types[2] and len(scheme_of(names).types) == 2
    found = f1_of(counts([truth], [guess], names))
    assert found == pytest.approx({"precision": 2 / 3, "recall": 1 / 2, "f1": 4 / 7})


@pytest.mark.parametrize("scheme", SPELLINGS)
def test_letters_alone_are_entities_without_a_type(scheme):
    truth, guess = ([tag[0] for tag in text.split()] for text in SPELLINGS[scheme])
    names = sorted({*truth, *guess})
    apart = {("", 0, 2), ("", 3, 4), ("", 4, 6), ("", 6, 7)}
    joined = {("", 0, 2), ("", 3, 4), ("", 4, 7)}  # of IOB1 and IOE1, as a change of type is lost
    assert set(entities(truth, names)) == (joined if scheme in ("IOB1", "IOE1") else apart)
    assert scheme_of(names).note.endswith("; without types")


def test_tags_that_break_their_scheme_are_read_as_the_shared_task_does():
    """The second and the third are also what seqeval 1.2.2 says in its default mode."""
    assert entities(["I-A", "I-B", "E-B", "E-B"]) == [("A", 0, 1), ("B", 1, 3), ("B", 3, 4)]
    assert entities(["O", "I-PER", "I-PER", "O", "B-LOC", "I-PER"]) == [("PER", 1, 3), ("LOC", 4, 5), ("PER", 5, 6)]
    assert entities(["B-P", "O", "E-P", "S-P", "I-P"]) == [("P", 0, 1), ("P", 2, 3), ("P", 3, 4), ("P", 4, 5)]
    assert entities(["B", "I", "O", "I"]) == [("", 0, 2), ("", 3, 4)]
    assert entities([], NAMES) == []


def test_entities_end_with_their_sentence():
    found = counts([["B-X", "I-X"], ["I-X"], []], [["B-X", "I-X"], ["O"], []])
    assert found.tolist() == [[1, 1, 1], [0, 0, 1], [0, 0, 0]]
    assert f1_of(found) == {"precision": 1, "recall": 0.5, "f1": pytest.approx(2 / 3)}
    assert f1_of(found[[0, 0]])["f1"] == 1 and f1_of(found[2]) == {"precision": 0, "recall": 0, "f1": 0}
    assert counts([], [], NAMES).shape == (0, 3)
    with pytest.raises(ValueError, match="lengths"):
        entity_counts(np.zeros(1, int), np.zeros(2, int), np.zeros(2, int), 1, scheme_of(NAMES))


def test_many_sentences_are_counted_at_once():
    random = np.random.default_rng(0)
    scheme = scheme_of(["O", "B-X", "I-X", "B-Y", "I-Y"])
    labels, sentence = random.integers(5, size=40_000), np.repeat(np.arange(2000), 20)
    found = entity_counts(labels, labels, sentence, 2000, scheme)
    assert f1_of(found) == {"precision": 1, "recall": 1, "f1": 1} and found.sum() > 10_000
