"""The documented faults of other toolkits, as cases that our maskers survive. Each names where it was reported.

"transformers 5.23.0" without a number was found by running its collator: nobody has reported it.
"""

import random
from itertools import pairwise

import numpy as np
import pytest

from taskmask.analysis.check.cases import KINDS, LONG, TEXTS, Case, Line, lines_of, rows_of, vocabularies
from taskmask.data.batching import plan_epoch, this_rank
from taskmask.data.rng import RowRng
from taskmask.errors import ConfigError
from taskmask.maskers.base import build_masker
from taskmask.masking.replace import replace_tokens
from taskmask.masking.targets import labels_in_place
from taskmask.registry import MASKERS

READS_A_COLUMN = {
    "listed",
    "scored",
    "whole_unit",
}  # a column decides, not a draw; its own tests and the conformance kit give it one
BUILT_IN = [n for n in MASKERS.names() if "/taskmask/maskers/" in MASKERS.where(n) and n not in READS_A_COLUMN]
PUNCTUATED = "hello, world! it's state-of-the-art (really)."
SIGMAS = 6  # draws are functions of a seed, so a bound that holds once holds always

every_masker = pytest.mark.parametrize("name", BUILT_IN)
every_kind = pytest.mark.parametrize("kind", KINDS)


def vocab_of(kind):
    made, _ = vocabularies()
    if kind not in made:
        pytest.skip("the package tokenizers is not installed")
    return made[kind]


def masker_of(name, vocab, **options):
    entry = MASKERS.get(name)
    try:
        config = entry.config(**{**entry.preset, **options})
    except ConfigError as error:
        pytest.skip(str(error))
    return build_masker(name, config, vocab)


def whole_word_maskers(vocab):
    """Those that promise whole words with their defaults."""
    return [masker for name in BUILT_IN if "whole_words" in (masker := masker_of(name, vocab)).promises]


def rows_with(vocab, contents, ids=None, extra=0):
    """Rows of texts, or of lists of ids."""
    contents = [vocab.encode([c])[0].tolist() if isinstance(c, str) else list(c) for c in contents]
    ids = range(len(contents)) if ids is None else ids
    return rows_of(vocab, Case(tuple(Line("", tuple(c), id) for c, id in zip(contents, ids, strict=True)), extra=extra))


def copies(vocab, content, num):
    return rows_with(vocab, [content] * num)


def text_of(script):
    return " ".join(TEXTS[script])


def mask_of(masker, rows, seed=1, epoch=1, progress=0.0):
    return masker(rows, RowRng(seed, epoch, rows.ids, progress))


def assert_mean(found, expected):
    """The mean of many draws is as expected."""
    assert abs(found.mean() - expected) <= SIGMAS * found.std() / np.sqrt(found.size) + 1e-9


# ---- what must never be masked


@every_kind
@every_masker
@pytest.mark.parametrize("ratio", [0.15, 1.0])
def test_no_padding_and_no_special_token_is_masked(name, kind, ratio):
    """huggingface/transformers#11155 (padding, after a refactoring), #1307, #1395; AnswerDotAI/ModernBERT#212 (no
    exclusion at all); fairseq mask_tokens_dataset.py (draws over <s> and </s>); JonasGeiping/cramming ([CLS])."""
    vocab = vocab_of(kind)
    rows = rows_of(vocab, Case(lines_of(vocab), extra=5))
    for epoch in range(6):
        mask = mask_of(masker_of(name, vocab, ratio=ratio), rows, epoch=epoch)[0]
        assert not (mask & vocab.is_special[rows.tokens]).any() and not (mask & ~rows.keep).any()
        assert ratio < 1 or np.array_equal(mask, rows.maskable)


@every_masker
def test_lists_of_what_is_never_masked_have_an_effect(name):
    """google-research/electra: `disallow_from_mask` is there and was never exposed."""
    vocab = vocab_of("bpe")
    pieces = [vocab.piece(id) for id in vocab.encode([TEXTS["english"][0]])[0][:3]]
    rows = copies(vocab, TEXTS["english"][0], 200)
    mask = mask_of(masker_of(name, vocab, ratio=0.9, never=tuple(pieces)), rows)[0]
    assert mask.any() and not mask[np.isin(rows.tokens, vocab.ids_of_pieces(pieces))].any()


@every_masker
def test_the_mask_is_not_upside_down(name):
    """octanove/shiba#12: an inverted mask, so that nothing was to be predicted."""
    vocab = vocab_of("unigram")
    rows = copies(vocab, text_of("english"), 50)
    mask = mask_of(masker_of(name, vocab, ratio=0.15), rows)
    tokens = replace_tokens(rows, mask, RowRng(1, 1, rows.ids), mask_share=1.0, random_share=0.0)
    positions, labels = labels_in_place(rows.tokens, mask)
    flat, before = mask.reshape(tokens.shape), np.tile(rows.tokens, (len(mask), 1))  # views, one after the other
    assert 0.1 < mask[0].sum() / rows.maskable.sum() < 0.2 and len(positions) == mask.sum()
    assert np.array_equal(tokens == vocab.mask, flat) and np.array_equal(labels, before[flat])


@every_masker
def test_everything_else_is_returned_as_it_was(name):
    """huggingface/transformers#12998: attention_mask and other fields were lost on the way."""
    vocab = vocab_of("bpe")
    rows = rows_of(vocab, Case(lines_of(vocab)))
    before = {field: getattr(rows, field).copy() for field in ("tokens", "lengths", "ids", "keep", "maskable", "words")}
    mask = mask_of(masker_of(name, vocab), rows)
    tokens = replace_tokens(rows, mask, RowRng(1, 1, rows.ids))
    assert all(np.array_equal(getattr(rows, field), array) for field, array in before.items())
    flat, whole = mask.reshape(tokens.shape), np.tile(rows.tokens, (len(mask), 1))  # views, one after the other
    assert np.array_equal(tokens[~flat], whole[~flat])
    positions, labels = labels_in_place(rows.tokens, mask)
    tokens.reshape(-1)[positions] = labels
    assert np.array_equal(tokens, whole)


# ---- words


@every_kind
@pytest.mark.parametrize("script", ["chinese", "japanese", "thai"])
def test_a_sentence_without_spaces_is_no_word(script, kind):
    """transformers 5.23.0, Chinese or Japanese with WordPiece: in 85 % of the draws nothing was masked, in 15 % the
    whole sentence."""
    vocab = vocab_of(kind)
    rows = copies(vocab, "".join(TEXTS[script]), 1000)
    num, words = int(rows.maskable[0].sum()), int(rows.words[0].max()) + 1
    assert words > num / 4  # a character that became bytes has three or four tokens
    for name in BUILT_IN:
        share = mask_of(masker_of(name, vocab), rows)[0].sum(axis=1) / num
        assert share.max() < 0.9 and (share == 0).mean() < 0.2 and share.std() < 0.1, name
    share = mask_of(masker_of("whole_word", vocab), rows)[0].sum(axis=1) / num
    assert share.max() < 0.25 and share.min() > 0.05


@every_kind
def test_english_is_not_one_word_where_offsets_hold_the_space(kind):
    """transformers 5.23.0: byte-level BPE whose post-processor does not trim offsets (TemplateProcessing)."""
    vocab = vocab_of(kind)
    rows = copies(vocab, TEXTS["english"][0], 500)
    assert rows.words[0].max() + 1 >= len(TEXTS["english"][0].split())
    for masker in whole_word_maskers(vocab):
        assert mask_of(masker, rows)[0].sum(axis=1).max() < rows.maskable[0].sum()


@every_kind
def test_punctuation_is_not_glued_to_words(kind):
    """transformers 5.23.0 with BertPreTokenizer: 5 "words" instead of 18."""
    vocab = vocab_of(kind)
    words = int(rows_with(vocab, [PUNCTUATED]).words.max()) + 1
    assert words == 18 or (kind != "wordpiece" and words >= 16)  # where ")." or the like is one piece, it is one word


@pytest.mark.parametrize("kind", ["bpe", "byte_bpe"])
@pytest.mark.parametrize("script", list(TEXTS))
def test_the_bytes_of_a_character_are_not_torn_apart(script, kind):
    """transformers 5.23.0: multi-byte characters of byte-level BPE were split into several words."""
    vocab, seen = vocab_of(kind), False
    for text in TEXTS[script]:
        rows = copies(vocab, text, 100)
        masks = [mask_of(masker, rows)[0] for masker in whole_word_maskers(vocab)]
        ((_, first, last),) = vocab.encode_with_offsets([text])
        for at in np.flatnonzero((first[1:] < last[:-1]) & (first[:-1] < last[1:])) + 1:  # both cover one character
            seen = True
            assert rows.words[0, at] == rows.words[0, at + 1]
            assert all(np.array_equal(mask[:, at], mask[:, at + 1]) for mask in masks)
    assert seen or script in ("english", "german", "arabic", "code") or kind == "bpe"


@every_kind
def test_whole_words_are_whole_with_every_tokenizer(kind):
    """huggingface/transformers#11768 ("training for weeks ... only works for BERT"), #9866, #6491; Megatron-LM
    masked_dataset.py looks for "##": other tokenizers silently get token masking. facebookresearch/fairseq#3924:
    AttributeError for RoBERTa, to this day."""
    vocab = vocab_of(kind)
    rows = copies(vocab, text_of("german"), 200)
    sizes = np.bincount(rows.words[0][rows.maskable[0]])
    assert (sizes > 1).sum() > 10
    maskers = whole_word_maskers(vocab)
    assert len(maskers) >= 2
    for masker in maskers:
        mask = mask_of(masker, rows)[0]
        for word in range(len(sizes)):
            inside = mask[:, rows.words[0] == word]
            assert (inside.all(axis=1) == inside.any(axis=1)).all()


def test_whole_words_are_not_always_replaced_by_mask():
    """transformers 5.23.0: `whole_word_mask=True` forces 100 % [MASK]."""
    vocab = vocab_of("unigram")
    rows = copies(vocab, text_of("english"), 400)
    mask = mask_of(masker_of("whole_word", vocab), rows)
    new, old = replace_tokens(rows, mask, RowRng(1, 1, rows.ids))[mask[0]], rows.tokens[mask[0]]
    assert abs((new == vocab.mask).mean() - 0.8) < 0.03 and abs((new == old).mean() - 0.1) < 0.03


@every_masker
def test_words_are_known_without_another_column(name):
    """huggingface/transformers Trainer drops `offset_mapping` before the collator, which then dies (#19599, #25054)."""
    vocab = vocab_of("bpe")
    rows = rows_with(vocab, [PUNCTUATED])
    masker = masker_of(name, vocab)
    assert masker.columns == () and rows.columns == {}
    mask_of(masker, rows)


@every_masker
def test_rows_of_unequal_lengths(name):
    """transformers 5.23.0: an IndexError in every such batch, as offsets are not padded."""
    vocab = vocab_of("bpe")
    rows = rows_with(vocab, ["a", "", PUNCTUATED, PUNCTUATED * 5, "it"])
    together = mask_of(masker_of(name, vocab, ratio=0.5), rows)
    for row in range(len(rows.ids)):
        alone = rows_with(vocab, [rows.tokens[row, 1 : rows.lengths[row] - 1]], ids=[row])
        width = alone.shape[1]
        assert np.array_equal(mask_of(masker_of(name, vocab, ratio=0.5), alone)[0, 0], together[0, row, :width])


# ---- how much is masked


def test_a_long_word_is_masked_as_often_as_a_short_one():
    """google-research/bert leaves out a word that would pass the budget, so long words are masked too rarely; others
    take it whole and pass the budget."""
    vocab, num = vocab_of("bpe"), 20_000
    rows = copies(vocab, "Donaudampfschifffahrtsgesellschaft it is a the of", num)
    sizes = np.bincount(rows.words[0][rows.maskable[0]])
    assert sizes.max() >= 10 and sizes.min() <= 2
    for masker in (masker_of(name, vocab) for name in ("whole_word", "span")):
        mask = mask_of(masker, rows)[0]
        shares = mask[:, rows.maskable[0]].mean(axis=0)
        assert np.abs(shares - 0.15).max() < SIGMAS * np.sqrt(0.15 * 0.85 / num)
        assert_mean(mask.sum(axis=1), 0.15 * rows.maskable[0].sum())


@every_masker
def test_the_budget_does_not_run_short(name):
    """google-research/electra draws positions with replacement, so fewer are masked than were to be."""
    vocab = vocab_of("bpe")
    rows = copies(vocab, text_of("english"), 3000)
    for ratio in (0.15, 0.5):
        found = mask_of(masker_of(name, vocab, ratio=ratio), rows)[0].sum(axis=1)
        wanted = ratio * rows.maskable[0].sum()
        promises = masker_of(name, vocab, ratio=ratio).promises
        if "mean_budget" in promises:
            assert_mean(found, wanted)
        if "exact_budget" in promises:
            assert set(found) <= {np.floor(wanted), np.ceil(wanted)}


def test_a_fixed_number_of_tokens_a_row():
    """huggingface/transformers#1814 asks for it: coins for each token give any number, none included."""
    vocab = vocab_of("bpe")
    rows = copies(vocab, text_of("english"), 500)
    found = mask_of(masker_of("uniform", vocab), rows)[0].sum(axis=1)
    assert np.ptp(found) <= 1


@every_masker
def test_both_documents_of_a_packed_row_are_masked(name):
    """AnswerDotAI/ModernBERT#242: masks drawn on the packed stream leave samples without any; no span crosses the
    border, as those of fairseq's `--mask-multiple-length` may."""
    vocab = vocab_of("bpe")
    half = vocab.encode([text_of("english")])[0].tolist()[:60]
    rows = copies(vocab, [*half, vocab.eos, *half], 3000)
    masker = masker_of(name, vocab, ratio=0.15)
    mask = mask_of(masker, rows)[0]
    for start in (1, 62):
        document = mask[:, start : start + 60].sum(axis=1)
        if "mean_budget" in masker.promises:
            assert_mean(document, 9.0)
        assert 7 < document.mean() < 11  # T5 begins every row with what is not masked
        assert (document == 0).mean() < 0.4
    assert not mask[:, 61].any()


@every_masker
def test_nothing_masked_leaves_the_rows_and_has_no_targets(name):
    """huggingface/transformers#16711: the mean over no token is NaN, and training goes on with it."""
    vocab = vocab_of("bpe")
    rows = rows_with(vocab, ["", [vocab.eos, vocab.unk]])
    mask = mask_of(masker_of(name, vocab, ratio=1.0), rows)
    positions, labels = labels_in_place(rows.tokens, mask)
    assert not mask.any() and len(positions) == len(labels) == 0
    assert np.array_equal(replace_tokens(rows, mask, RowRng(1, 1, rows.ids)), rows.tokens)


# ---- random numbers


@every_masker
def test_every_epoch_has_masks_of_its_own(name):
    """google-research/bert writes `dupe_factor` masked copies (#238, #1332), academic-budget-bert too: the same few
    masks again and again."""
    vocab = vocab_of("bpe")
    rows = rows_with(vocab, [text_of("english")])
    masker = masker_of(name, vocab)
    assert len({mask_of(masker, rows, epoch=epoch).tobytes() for epoch in range(1, 41)}) > 30


@every_masker
def test_every_row_has_a_stream_of_its_own(name):
    """fairseq seeds with `int(hash((seed, epoch, index)) % 1e6)`: a million rows share 34,415 streams, and rows 0,
    17732 and 39717 the same mask."""
    vocab = vocab_of("bpe")
    content = vocab.encode([text_of("english")])[0].tolist()[:180]
    num, masker = 40_000, masker_of(name, vocab, ratio=0.5)
    streams = np.concatenate([
        np.packbits(mask_of(masker, rows_with(vocab, [content] * 4000, ids=range(first, first + 4000)))[0], axis=1)
        for first in range(0, num, 4000)
    ])  # fmt: skip
    assert len(np.unique(streams, axis=0)) > 0.9 * num
    assert not np.array_equal(streams[0], streams[17732]) and not np.array_equal(streams[0], streams[39717])


@every_masker
def test_the_number_of_workers_and_processes_changes_nothing(name):
    """huggingface/transformers#36357: the generator is made anew in each worker and never saved; MosaicBERT, EuroBERT:
    data order resumes, the generator of masks does not; facebookresearch/fairseq#781, accelerate#4071: resumes."""
    vocab = vocab_of("bpe")
    lines = [line for line in lines_of(vocab) if len(line.content) in (2, LONG)] * 4
    lines = [line._replace(id=number) for number, line in enumerate(lines)]
    lengths = np.array([len(line.content) + 2 for line in lines])

    def masks(epoch, world_size, max_tokens, first_step=0):
        plan = plan_epoch(lengths, 1, epoch, max_tokens)
        found = {}
        for rank in range(world_size):
            random.seed(rank), np.random.seed(rank)
            masker = masker_of(name, vocab)
            for step in range(first_step, -(-len(plan) // 12)):
                for number in this_rank(step, 12, rank, world_size):
                    if number < len(plan):
                        case = Case(tuple(lines[row] for row in plan[number].tolist()), epoch=epoch)
                        rows = rows_of(vocab, case)
                        mask = masker(rows, case.rng())[0]
                        found |= {
                            id: row[:size].tobytes()
                            for id, row, size in zip(rows.ids.tolist(), mask, rows.lengths, strict=True)
                        }
        return found

    expected = masks(2, 1, 400)
    assert len(expected) == len(lines)
    for other in (masks(2, 4, 400), masks(2, 3, 1000), masks(2, 1, 98)):
        assert other == expected
    resumed = masks(2, 4, 98, first_step=2)
    assert 0 < len(resumed) < len(expected) and resumed.items() <= expected.items()
    assert masks(3, 1, 400) != expected


@every_masker
def test_the_global_generators_are_not_asked(name):
    """fairseq DenoisingDataset seeds numpy and draws from torch (denoising_dataset.py:236): not repeatable."""
    torch = pytest.importorskip("torch")
    vocab = vocab_of("bpe")
    rows = copies(vocab, text_of("english"), 20)
    found = []
    for seed in (0, 1):
        random.seed(seed), np.random.seed(seed), torch.manual_seed(seed)
        found.append(mask_of(masker_of(name, vocab), rows))
        assert random.random() == random.Random(seed).random()
        assert np.random.random_sample() == np.random.RandomState(seed).random_sample()
        assert torch.equal(torch.rand(1), torch.rand(1, generator=torch.Generator().manual_seed(seed)))
    assert np.array_equal(*found)


@every_masker
def test_the_masks_of_a_validation_stay_the_same(name):
    """huggingface/transformers draws fresh masks in each evaluation, so that losses cannot be compared."""
    from taskmask.training.data_loader import frozen_tickets

    vocab = vocab_of("bpe")
    content = vocab.encode([text_of("english")])[0].tolist()[:50]
    found = []
    for max_tokens in (200, 5000):
        masker, masks = masker_of(name, vocab, ratio=0.1, ratio_end=0.4), {}
        for ticket in frozen_tickets(np.full(40, 52), max_tokens, 1):
            mask = masker(rows_with(vocab, [content] * len(ticket.ids), ids=ticket.ids.tolist()), ticket.rng)[0]
            masks |= {id: row.tobytes() for id, row in zip(ticket.ids.tolist(), mask, strict=True)}
        found.append(masks)
    assert found[0] == found[1] and len(found[0]) == 40


@every_kind
def test_random_pieces_are_no_specials_and_not_of_the_batch_alone(kind):
    """AnswerDotAI/ModernBERT draws from 0 to the highest id of the batch, specials included."""
    vocab = vocab_of(kind)
    rows = copies(vocab, [int(np.flatnonzero(~vocab.is_special)[0])] * 60, 1000)
    mask = mask_of(masker_of("uniform", vocab, ratio=1.0), rows)
    drawn = np.unique(replace_tokens(rows, mask, RowRng(1, 1, rows.ids), mask_share=0.0, random_share=1.0)[mask[0]])
    assert set(drawn) == set(np.flatnonzero(~vocab.is_special))


def test_spans_neither_overlap_nor_tear_words():
    """fairseq `--mask-multiple-length`: spans may overlap, so that less is masked, and run off the end of a word."""
    vocab = vocab_of("bpe")
    rows = copies(vocab, text_of("english"), 2000)
    mask = mask_of(masker_of("span", vocab, ratio=0.4), rows)[0]
    assert_mean(mask.sum(axis=1), 0.4 * rows.maskable[0].sum())
    for at, (one, other) in enumerate(pairwise(rows.words[0].tolist())):
        assert one != other or one < 0 or np.array_equal(mask[:, at], mask[:, at + 1])
