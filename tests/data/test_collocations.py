"""Collocations: counted exactly, measured as by hand, written and read, and found again in rows."""

import itertools
import math
from collections import Counter

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from taskmask.data.in_memory import MemorySplit
from taskmask.errors import DataError, StorageError
from taskmask.span_columns import collocations as module
from taskmask.span_columns.collocations import (
    HEADER,
    Collocation,
    collocations,
    count,
    read_collocations,
    write_collocations,
)
from taskmask.span_columns.segmenter import Segmenter, divide
from taskmask.span_columns.words import keys_of_texts, ngrams, stretches, words_of


def split_of(vocab, lines):
    return MemorySplit({"tokens": [np.append(ids, vocab.eos) for ids in vocab.encode(lines)]})


def by_hand(lines, least):
    """{text: (count, PMI)} of rows of words, every division tried."""
    counts = Counter()
    for words in (line.split() for line in lines):
        counts.update(tuple(words[at : at + n]) for n in range(1, 6) for at in range(len(words) - n + 1))
    totals = Counter()
    for gram, times in counts.items():
        totals[len(gram)] += times
    found = {}
    for gram, times in counts.items():
        if len(gram) > 1 and times >= least:
            p = lambda part: counts[part] / totals[len(part)]  # noqa: E731
            divisions = [
                [gram[a:b] for a, b in itertools.pairwise([0, *cuts, len(gram)])]
                for num in range(1, len(gram))
                for cuts in itertools.combinations(range(1, len(gram)), num)
            ]
            pmi = min(math.log(p(gram) ** 2 / math.prod(map(p, parts))) for parts in divisions)
            found[" ".join(gram)] = (times, pmi)
    return found


def test_by_hand(unigram):
    """ "new" 20 and "york" 10 times among 30 words, together 10 times among 10 pairs."""
    found, counts, least = collocations(split_of(unigram, ["dog fox"] * 10 + ["dog"] * 10), unigram, 100)
    assert [(one.text, one.count) for one in found] == [("dog fox", 10)]
    assert found[0].pmi == pytest.approx(math.log(1 / (20 / 30 * 10 / 30)))
    assert counts == {1: 2, 2: 1, 3: 0, 4: 0, 5: 0} and set(least.values()) == {10}


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_as_every_division_tried(unigram, data):
    words = st.sampled_from(["dog", "the", "unreasonably", "fox"])
    lines = data.draw(st.lists(st.lists(words, max_size=9).map(" ".join), min_size=1, max_size=12))
    least = data.draw(st.integers(1, 3))
    found, *_ = collocations(split_of(unigram, lines), unigram, 10**6, least, most_keys=data.draw(st.integers(2, 50)))
    expected = by_hand(lines, least)
    assert {one.text: one.count for one in found} == {text: times for text, (times, _) in expected.items()}
    assert all(one.pmi == pytest.approx(expected[one.text][1]) for one in found)
    sizes = [one.text.count(" ") for one in found]
    assert sizes == sorted(sizes)
    for _, group in itertools.groupby(found, lambda one: one.text.count(" ")):
        values = [one.pmi for one in group]
        assert values == sorted(values, reverse=True)


def test_a_planted_collocation_comes_first_and_punctuation_divides(vocabulary):
    random = np.random.default_rng(1)
    words = ["the", "dog", "often"]
    lines = [" ".join(random.choice(words, 12)) + " lazy fox" for _ in range(200)] + ["dogs, foxes"] * 20
    found, *_ = collocations(split_of(vocabulary, lines), vocabulary, 8, 5)
    assert found[0].text == "lazy fox" and found[0].count == 200
    assert not any("dogs" in one.text for one in found)
    assert Counter(one.text.count(" ") + 1 for one in found) == {2: 4, 3: 2, 4: 1, 5: 1}  # the shares of 8


@given(
    st.lists(st.integers(0, 20) | st.just(2**64 - 1), max_size=200), st.integers(1, 30), st.integers(1, 40),
    st.integers(1, 3),
)  # fmt: skip
def test_counts_are_exact_however_few_keys_are_held(keys, size, most_keys, least):
    array, places = np.array(keys, np.uint64), np.arange(len(keys))
    passes = lambda: ((array[at : at + size], places[at : at + size]) for at in range(0, len(keys), size))  # noqa: E731
    found = count(passes, least, most_keys)
    expected = {key: times for key, times in sorted(Counter(keys).items()) if times >= least}
    assert dict(zip(found.keys.tolist(), found.counts.tolist(), strict=True)) == expected
    assert found.keys.tolist() == list(expected) and found.places.tolist() == [keys.index(key) for key in expected]


@given(
    st.lists(st.integers(0, 20), max_size=200), st.integers(1, 30), st.integers(1, 40), st.integers(1, 3),
    st.integers(1, 25),
)  # fmt: skip
def test_no_more_are_kept_than_are_wanted_and_those_are_the_most_frequent(keys, size, most_keys, least, most_kept):
    array, places = np.array(keys, np.uint64), np.arange(len(keys))
    passes = lambda: ((array[at : at + size], places[at : at + size]) for at in range(0, len(keys), size))  # noqa: E731
    found, counts = count(passes, least, most_keys, most_kept), Counter(keys)
    right = next(n for n in itertools.count(least) if sum(times >= n for times in counts.values()) <= most_kept)
    assert found.least == right
    assert found.keys.tolist() == sorted(key for key, times in counts.items() if times >= right)


@pytest.mark.parametrize("rows", [20, 400])
def test_what_is_kept_does_not_grow_with_the_text(unigram, rows):
    random = np.random.default_rng(rows)
    words = ["dog", "the", "fox", "unreasonably", "often", "jumping", "lazy"]
    lines = [" ".join(random.choice(words, 20, p=[0.4, 0.2, 0.1, 0.1, 0.1, 0.05, 0.05])) for _ in range(rows)]
    found, counts, least = collocations(split_of(unigram, lines), unigram, 10**6, 1, most_keys=50, most_kept=20)
    assert counts[1] == 7 and all(5 < counts[n] <= 20 for n in (2, 3)) and max(counts.values()) <= 20
    assert list(least.values()) == sorted(least.values()) and least[5] > 1
    expected = by_hand(lines, 1)
    assert {one.text: one.count for one in found} == {
        text: times for text, (times, _) in expected.items() if times >= least[text.count(" ") + 1]
    }
    assert all(one.pmi == pytest.approx(expected[one.text][1]) for one in found)


def test_words_of_the_same_pieces_are_the_same_and_in_every_stretch(vocabulary):
    lines = ["The dog (dog) jumps", "", "over the dog, the dog"] * 5
    split = split_of(vocabulary, lines)
    whole = next(stretches(split))
    words = words_of(whole.tokens, whole.offsets, vocabulary)
    bounds = list(zip(words.firsts, words.stops, strict=True))
    text = [vocabulary.decode(whole.tokens[a:b]) for a, b in bounds]
    assert text[:6] == ["The", "dog", "(", "dog", ")", "jumps"]
    pieces = [" ".join(vocabulary.pieces(whole.tokens[a:b])).replace("▁", "").strip() for a, b in bounds]
    keys = {}
    for word, key in zip(pieces, words.keys.tolist(), strict=True):
        assert keys.setdefault(word, key) == key
    assert len(set(keys.values())) == len(keys)
    assert words.begins.sum() == 10 and words.is_text.tolist() == [word.isalnum() for word in text]
    parts = list(stretches(split, 7))
    assert len(parts) > 5 and [part.first_row for part in parts][1] == 1
    assert np.array_equal(np.concatenate([part.tokens for part in parts]), whole.tokens)
    some = [words_of(part.tokens, part.offsets, vocabulary).keys for part in parts]
    assert np.array_equal(np.concatenate(some), words.keys)
    (pair,), (num,) = keys_of_texts([["the", "dog"]], vocabulary)
    assert num == 2 and (ngrams(words, 2)[1][0] == pair).sum() == 10
    assert keys_of_texts([["isn't"], ["dog", ","]], vocabulary)[1].tolist() == [0, 0]


# ---- the file


def test_the_file_is_read_as_it_was_written(tmp_path):
    path = tmp_path / "list.tsv"
    write_collocations(path, [Collocation("New York", 12, 0.25), Collocation("à la carte", 10, -1.5)])
    assert path.read_text("utf-8") == f"{HEADER}\nNew York\t12\t0.2500\nà la carte\t10\t-1.5000\n"
    assert read_collocations(path) == ["New York", "à la carte"]
    path.write_text("new york\nsan francisco", "utf-8")  # another list
    assert read_collocations(path) == ["new york", "san francisco"]


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"a b\nword\t3\t1\n", r"list\.tsv:2: 'word' is no collocation; expected two words"),
     (b"a b\n\nc d\n", r"list\.tsv:2: '' is no"), (b"a b\n\xff c\n", r"list\.tsv:2:1: byte 0xff is not UTF-8")],
)  # fmt: skip
def test_damaged_lists(tmp_path, content, message):
    path = tmp_path / "list.tsv"
    path.write_bytes(content)
    with pytest.raises(DataError, match=message):
        read_collocations(path)
    with pytest.raises(DataError, match=r"cannot read the list of collocations: No such file.*taskmask collocations"):
        read_collocations(tmp_path / "none.tsv")


def test_a_list_appears_when_it_is_whole(tmp_path):
    path = tmp_path / "list.tsv"
    path.write_text("a b\n")

    def breaks():
        yield Collocation("c d", 1, 0.0)
        raise OSError(28, "no space")

    with pytest.raises(StorageError):
        write_collocations(path, breaks())
    assert path.read_text() == "a b\n" and [file.name for file in tmp_path.iterdir()] == ["list.tsv"]


# ---- rows divided


def assert_divided(known, sizes, num):
    """What is chosen is known, does not overlap, and nothing known is left that would fit."""
    covered = np.zeros(num, int)
    for at in np.flatnonzero(sizes):
        assert known[sizes[at]][at]
        covered[at : at + sizes[at]] += 1
    assert covered.max(initial=0) <= 1
    for n, places in known.items():
        assert all(covered[at : at + n].any() for at in np.flatnonzero(places))
    for n, places in known.items():  # the longest containing entry wins, unless it has lost to another
        for at in np.flatnonzero(places & (sizes == n)):
            for m in range(n + 1, 6):
                for begin in range(max(at + n - m, 0), at + 1):
                    if known.get(m, np.zeros(num, bool))[begin : begin + 1].any():
                        around = sizes[max(begin - 4, 0) : begin + m].copy()
                        assert np.count_nonzero(around) > 1


@given(st.data())
def test_divisions(data):
    num = data.draw(st.integers(1, 25))
    known = {n: np.zeros(num, bool) for n in range(2, 6)}
    for n in known:
        for at in data.draw(st.lists(st.integers(0, num - 1), max_size=8)):
            known[n][at] = at + n <= num
    priority = np.random.default_rng(data.draw(st.integers(0, 99))).permutation(num)
    assert_divided(known, divide(known, priority), num)


def test_of_two_that_overlap_either_at_random_and_the_rest_goes_on():
    """Words a b c d: of "a b c" and "c d" one; where "c d" wins, "a b" takes what is left."""
    known = {n: np.zeros(4, bool) for n in range(2, 6)}
    known[2][[0, 2]] = known[3][0] = True
    found = Counter(tuple(divide(known, np.random.default_rng(seed).random(4)).tolist()) for seed in range(1000))
    assert set(found) == {(3, 0, 0, 0), (2, 0, 2, 0)} and 400 < found[3, 0, 0, 0] < 600


def test_collocations_of_a_list_are_found_in_rows(vocabulary):
    lines = ["the quick brown fox", "lazy dog, the lazy dog", "quick", "(the quick) brown fox"]
    split = split_of(vocabulary, lines)
    find = Segmenter(["quick brown fox", "brown fox", "lazy dog", "dog the", "one two three four five six"], vocabulary)
    assert find.num_unfit == 1
    (stretch,) = stretches(split)
    found = [vocabulary.decode(stretch.tokens[a:b]) for a, b in zip(*find(stretch), strict=True)]
    assert found == ["quick brown fox", "lazy dog", "lazy dog", "brown fox"]
    parts = [part.start + find(part)[0] for part in stretches(split, 5)]
    assert np.array_equal(np.concatenate(parts), find(stretch)[0])


def test_the_longest_are_those_of_the_paper():
    assert sorted(module.SHARES) == [2, 3, 4, module.LONGEST] and sum(module.SHARES.values()) == 1
