"""Spans taken out and put back, insertions, and sentences in another order."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_corrupt import random_rows, some

from taskmask.data.batch import TokenBatch
from taskmask.data.rng import RowRng
from taskmask.errors import DataError
from taskmask.masking.replace import Gaps, collapse_spans, insert_gaps, permute_sentences
from taskmask.masking.sentences import sentence_numbers
from taskmask.masking.targets import full_sentence, masked_spans, put_back, shift_right
from taskmask.tokenizer.tokenizer import Vocabulary, train_vocabulary

SENTINELS = np.arange(300, 340)


def rows_of(vocab, texts, extra=0, first_id=0):
    contents = vocab.encode(texts)
    lengths = np.array([len(ids) + 2 for ids in contents])
    tokens = np.full((len(texts), lengths.max() + extra), vocab.pad)
    for row, ids in zip(tokens, contents, strict=True):
        row[: len(ids) + 2] = [vocab.bos, *ids, vocab.eos]
    return TokenBatch(tokens, lengths, first_id + np.arange(len(texts)), vocab)


def row_of(vocab, ids):
    return TokenBatch(np.array([[vocab.bos, *ids, vocab.eos]]), np.array([len(ids) + 2]), np.zeros(1, int), vocab)


def whole(arrays, lengths):
    return [row[:length].tolist() for row, length in zip(arrays, lengths, strict=True)]


@pytest.mark.parametrize(
    ("chosen", "inserted", "read", "written"),
    [
        ([2, 3], [], "s 11 M 14 15 16 e", "s 12 13 e"),
        ([1, 4, 5], [], "s M 12 13 M 16 e", "s 11 M 14 15 e"),
        ([2, 6], [], "s 11 M 13 14 15 M e", "s 12 M 16 e"),
        ([3], [1, 6], "s M 11 12 M 14 15 M 16 e", "s M 13 M e"),
        ([1, 2, 3, 4, 5, 6], [], "s M e", "s 11 12 13 14 15 16 e"),
        ([], [], "s 11 12 13 14 15 16 e", "s e"),
    ],
)
def test_by_hand(unigram, chosen, inserted, read, written):
    names = {"s": unigram.bos, "e": unigram.eos, "M": unigram.mask}
    rows = row_of(unigram, [11, 12, 13, 14, 15, 16])
    masks = np.zeros((2, 1, *rows.shape), bool)
    masks[0, 0, 0, chosen], masks[1, 0, 0, inserted] = True, True
    gaps = Gaps(rows, masks[0], masks[1])
    for found, wanted in ((collapse_spans(gaps), read), (masked_spans(gaps), written)):
        assert whole(*found) == [[names.get(word) or int(word) for word in wanted.split()]]


def test_sentinels_by_hand(unigram):
    rows = row_of(unigram, [11, 12, 13, 14])
    for chosen, read, written in (
        ([2], [11, 300, 13, 14], [300, 12, 301]),
        ([1, 4], [300, 12, 13, 301], [300, 11, 301, 14]),
        ([], [11, 12, 13, 14], []),
    ):
        mask = np.zeros((1, *rows.shape), bool)
        mask[0, 0, chosen] = True
        gaps = Gaps(rows, mask, sentinels=SENTINELS)
        assert whole(*collapse_spans(gaps)) == [[unigram.bos, *read, unigram.eos]]
        assert whole(*masked_spans(gaps)) == [[unigram.bos, *written, unigram.eos]]


def test_too_many_spans_for_the_sentinels(unigram):
    rows = row_of(unigram, np.arange(10, 20))
    mask = np.zeros((1, *rows.shape), bool)
    mask[0, 0, 1:-1:2] = True
    with pytest.raises(DataError, match=r"a row needs 5 sentinels; expected at most 4"):
        collapse_spans(Gaps(rows, mask, sentinels=SENTINELS[:4]))


def test_lengths_of_t5(unigram):
    """568 tokens, 85 of them noise in 28 spans that end the row: 512 to read and 114 to write, `</s>` counted."""
    random = np.random.default_rng(0)
    noise, rest = (random.multinomial(total - 28, [1 / 28] * 28) + 1 for total in (round(0.15 * 568), 568 - 85))
    mask = np.concatenate([np.repeat([False, True], [b, a]) for a, b in zip(noise, rest, strict=True)])
    assert mask.sum() == 85 and len(mask) == 568
    rows = row_of(unigram, random.choice(np.flatnonzero(~unigram.is_special)[:200], 568))
    gaps = Gaps(rows, np.pad(mask, 1)[None, None], sentinels=SENTINELS)
    assert collapse_spans(gaps)[1] - 1 == 512 and masked_spans(gaps)[1] - 1 == 114  # which have no <s>


@given(st.integers(0, 10**6), st.integers(1, 3), st.floats(0, 1), st.floats(0, 3), st.booleans())
def test_spans_put_back_rebuild_the_text(unigram, seed, views, share, insertions, with_sentinels):
    rows = random_rows(unigram, 4, 16, seed)
    kept = np.random.default_rng(seed).integers(3, 17, 4)
    inside = np.arange(16) < kept[:, None]
    tokens = np.where(inside, rows.tokens, unigram.pad)
    tokens[np.arange(4), kept - 1] = unigram.eos
    rows = TokenBatch(np.where(np.isin(tokens, SENTINELS), 9, tokens), kept, rows.ids, unigram)
    mask = np.concatenate([some(rows, share, seed + view) for view in range(views)])
    inserted = insert_gaps(rows, mask, insertions, RowRng(seed, 1, rows.ids))
    marks = SENTINELS if with_sentinels else np.array([unigram.mask])
    gaps = Gaps(rows, mask, inserted, SENTINELS if with_sentinels else SENTINELS[:0])
    read, written = whole(*collapse_spans(gaps)), whole(*masked_spans(gaps))
    assert len(read) == len(written) == views * 4 and max(map(len, read)) <= 16 and max(map(len, written)) <= 17
    original = whole(*full_sentence(rows.tokens, rows.lengths, views))
    for row, spans, text in zip(read, written, original, strict=True):
        assert unigram.is_special[[t for t in spans[1:-1] if t not in marks]].sum() == 0
        back = put_back(np.array(row), np.array(spans[1:-1], int), marks, leading=with_sentinels)
        assert back.tolist() == text


def test_put_back_takes_what_fits():
    marks = np.array([9])
    assert put_back(np.array([1, 9, 2, 9]), np.array([5]), marks, leading=False).tolist() == [1, 5, 2, 9]
    assert put_back(np.array([1, 9]), np.array([5, 9, 6]), marks, leading=False).tolist() == [1, 5]
    assert put_back(np.array([1, 2]), np.array([5]), marks, leading=False).tolist() == [1, 2]
    assert put_back(np.array([1, 9, 2]), np.array([4, 9, 5]), marks, leading=True).tolist() == [1, 5, 2]


def test_insertions_keep_away_from_spans_and_have_their_mean(unigram):
    rows = random_rows(unigram, 400, 60)
    mask = np.zeros((1, *rows.shape), bool)
    mask[0, :, 10:15] = mask[0, :, 30:35] = True
    mask &= rows.maskable
    spans, words = 2, rows.words
    inserted = insert_gaps(rows, mask, 0.3, RowRng(1, 1, rows.ids))[0]
    assert abs(inserted.sum(axis=1).mean() - 0.3 * spans) < 5 * 0.5 / np.sqrt(400)
    places = np.argwhere(inserted)
    before = places - [0, 1]
    assert not mask[0][tuple(places.T)].any() and not mask[0][tuple(before.T)].any()
    assert (words[tuple(places.T)] >= 0).all() and (words[tuple(places.T)] != words[tuple(before.T)]).all()
    many = Gaps(rows, mask, insert_gaps(rows, mask, 10, RowRng(1, 1, rows.ids)))
    assert (collapse_spans(many)[1] <= rows.lengths).all() and (collapse_spans(many)[1] == rows.lengths).any()


TEXTS = ["One fox. Two dogs! Three? Four naïve cats. Five", "Alone", "A fox. 我爱北京。今天好。 Last one."]


def test_sentences_change_their_order_and_nothing_else(unigram):
    rows = rows_of(unigram, TEXTS)
    rows.columns["place"], rows.columns["row"] = np.tile(np.arange(rows.shape[1]), (3, 1)), np.arange(3)
    numbers, orders = sentence_numbers(rows), set()
    for seed in range(30):
        found = permute_sentences(rows, RowRng(seed, 1, rows.ids))
        places = found.columns["place"]
        assert np.array_equal(np.take_along_axis(rows.tokens, places, 1), found.tokens)
        assert np.array_equal(np.sort(places, axis=1), rows.columns["place"])
        assert np.array_equal(found.tokens == unigram.pad, ~rows.keep) and found.columns["row"] is rows.columns["row"]
        moved = np.take_along_axis(numbers, places, 1)
        for row, (before, place) in enumerate(zip(moved, places, strict=True)):
            borders = np.flatnonzero(before[1:] != before[:-1]) + 1
            parts = np.split(place, borders)  # each a sentence, whole and in its own order
            assert all((np.diff(part) == 1).all() for part in parts)
            assert len(parts) == len(set(numbers[row])) + 1  # specials are at both ends
        orders.add(tuple(moved[0].tolist()))
    assert len(orders) > 15


def test_sentences_stay_in_their_document(unigram):
    (a, b) = unigram.encode(["One. Two. Three. Four.", "Five. Six. Seven."])
    rows = row_of(unigram, [*a, unigram.eos, *b])
    shuffled = [permute_sentences(rows, RowRng(seed, 1, rows.ids)).tokens[0] for seed in range(20)]
    for row in shuffled:
        assert row[len(a) + 1] == unigram.eos and sorted(row[1 : len(a) + 1]) == sorted(a)
    assert len({tuple(row.tolist()) for row in shuffled}) > 10


def test_a_row_is_treated_alike_in_any_batch(unigram):
    rows, rng = rows_of(unigram, TEXTS, first_id=50), lambda rows: RowRng(3, 2, rows.ids)
    mask = some(rows, 0.4)
    order = np.array([2, 0])
    pad = ((0, 0), (0, 7))
    few = rows.take(order)
    few = dataclasses.replace(few, tokens=np.pad(few.tokens, pad, constant_values=unigram.pad))
    few_mask = np.pad(mask[:, order], ((0, 0), *pad))
    width = rows.shape[1]
    assert np.array_equal(
        insert_gaps(few, few_mask, 2, rng(few))[..., :width], insert_gaps(rows, mask, 2, rng(rows))[:, order]
    )
    assert np.array_equal(
        permute_sentences(few, rng(few)).tokens[:, :width], permute_sentences(rows, rng(rows)).tokens[order]
    )


def test_the_decoder_reads_one_place_later():
    labels, lengths = np.array([[1, 5, 6, 2], [1, 2, 0, 0], [1, 7, 2, 0]]), np.array([4, 2, 0])
    assert shift_right(labels, lengths, 2, 0).tolist() == [[2, 1, 5, 6], [2, 1, 0, 0], [0, 0, 0, 0]]


def test_a_vocabulary_with_sentinels():
    vocab = Vocabulary(train_vocabulary(["the quick brown fox"] * 9, 300, "bpe", sentinels=12))
    assert vocab.pieces(vocab.sentinels) == [f"<extra_id_{number}>" for number in range(12)]
    assert vocab.is_special[vocab.sentinels].all() and vocab.decode(vocab.sentinels) == ""
    assert not np.isin(vocab.encode(["<extra_id_3> fox"])[0], vocab.sentinels).any()
    assert len(Vocabulary(train_vocabulary(["the quick brown fox"] * 9, 300, "bpe")).sentinels) == 0
