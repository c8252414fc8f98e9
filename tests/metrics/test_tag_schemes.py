"""Which labels are tags of entities, and the note that says so."""

import pytest
from entities_help import entities

from taskmask.metrics.tag_schemes import ALONE, FIRST, INSIDE, LAST, OUTSIDE, scheme_of

CONLL2003 = [f"{prefix}-{type}" for type in ("LOC", "MISC", "ORG", "PER") for prefix in "BI"]
TWITTER = list("NO^SZVAR!DP&TXY#@~UE$,GLM")  # parts of speech of Gimpel et al. 2011
PERSEUS = ["a-p---mn-", "l-s---mn-", "n-s---mn-", "u--------", "v3spia---", "m-p---fa-", "d--------", "i--------"]


@pytest.mark.parametrize("names, note", [
    ([*CONLL2003, "O"], "entities: IOB; 4 types (LOC, MISC, ORG, PER)"),
    (["O", "I-PER"], "entities: IO; 1 type (PER)"),
    (["O", "I-PER", "E-PER"], "entities: IOE; 1 type (PER)"),
    (["o", "b-per", "i-per"], "entities: IOB; 1 type (per)"),
    (["O", "B-A", "I-A", "E-A", "S-A"], "entities: IOBES; 1 type (A)"),
    (["O", "S-X"], "entities: IOBES; 1 type (X)"),
    (["O", "B-A", "I-A", "L-A", "U-A"], "entities: BILOU; 1 type (A)"),
    (["O", "B-A", "M-A", "E-A", "S-A"], "entities: BMES; 1 type (A)"),
    (["O", "B-A", "M-A", "E-A", "W-A"], "entities: BMEWO; 1 type (A)"),
    (["O", "B-A", "I-A", "L-A", "S-A"], "entities: mixed (B, I, L, S); 1 type (A)"),
    (["B", "M", "E", "S"], "entities: BMES; without types"),
    (["PER-B", "PER-I", "O", "LOC-B"], "entities: IOB, written as suffixes; 2 types (LOC, PER)"),
    (["O", "B-work-of-art", "I-work-of-art"], "entities: IOB; 1 type (work-of-art)"),
    (["O", "B_work-of-art", "B_LOC"], "entities: IOB; 2 types (LOC, work-of-art)"),
    ([*CONLL2003, "O", "X", "[CLS]"],
     "entities: IOB; 4 types (LOC, MISC, ORG, PER); outside of entities, besides O: 'X', '[CLS]'"),
    (["O", *(f"B-{n}" for n in range(12))], "entities: IOB; 12 types (0, 1, 10, 11, 2, 3, 4, 5, 6, 7 and 2 more)"),
])  # fmt: skip
def test_tags_of_entities(names, note):
    scheme = scheme_of(names)
    assert scheme.has_entities and scheme.note == note and len(scheme.roles) == len(scheme.type_ids) == len(names)
    assert scheme_of(names[::-1]).note.split("; outside")[0] == note.split("; outside")[0]


@pytest.mark.parametrize("names, note", [
    ([*CONLL2003, "O", "C-PER"], "the prefix 'C' of label 'C-PER' is unknown"),
    ([*CONLL2003, "O", "BEGIN-PER"], "the prefix 'BEGIN' of label 'BEGIN-PER' is unknown"),
    (["PER-B", "PER-I", "PER-K", "O"], "the suffix 'K' of label 'PER-K' is unknown"),
    (["O", "X-PER", "Y-PER"], "labels such as 'X-PER' have no prefix of entities"),
    (["O", "(PERSON*", "*)", "(GPE)", "*"], "labels such as '(PERSON*' have no prefix of entities"),
    (["NN", "VB", "-LRB-", "IN", "I", "``"], "labels such as 'NN' have no prefix of entities"),
    (["NN", "VB", "S-bar", "_"], "labels such as 'NN' have no prefix of entities"),
    (["B", "I", "N", "O", "V"], "labels such as 'N' have no prefix of entities"),
    (["ADJ", "NOUN", "X", "_"], "labels such as 'ADJ' have no prefix of entities"),
    (TWITTER, "labels such as 'N' have no prefix of entities"),
    (PERSEUS, "is unknown"),
    (["O", "e-mail", "phone"], "labels such as 'phone' have no prefix of entities"),
    (["O", "person-actor", "art-film"], "labels such as 'person-actor' have no prefix of entities"),
    (["vitamin-B", "vitamin-C"], "the suffix 'C' of label 'vitamin-C' is unknown"),
    (["keep", "mask"], "labels such as 'keep' have no prefix of entities"),
    (["0", "1", "10", "-1"], "the labels are numbers; if they are tags of entities, name them"),
    (["O"], "no label is a tag of an entity"), ([], "no label is a tag of an entity"),
])  # fmt: skip
def test_other_labels(names, note):
    for given in (names, names[::-1]):
        scheme = scheme_of(given)
        assert not scheme.has_entities and scheme.outside == {"O"}
        assert scheme.note.startswith("entities are not measured: ")
    assert note in scheme_of(names).note


def test_the_reading_of_each_label():
    scheme = scheme_of(["O", "B-A", "i_a", "L-A", "U-B", "PAD", "_"])
    assert scheme.roles.tolist() == [OUTSIDE, FIRST, INSIDE, LAST, ALONE, OUTSIDE, OUTSIDE]
    assert scheme.types == ("A", "B", "a") and scheme.type_ids.tolist() == [-1, 0, 2, 0, 1, -1, -1]
    assert scheme.outside == {"O", "_", "PAD"}


def test_labels_without_a_form_are_outside():
    assert entities(["B-X", "[PAD]", "I-X", "O"], ["O", "B-X", "I-X", "[PAD]"]) == [("X", 0, 1), ("X", 2, 3)]
