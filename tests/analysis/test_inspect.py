"""What is shown and counted of a policy is what it does: against counts by hand, with policies that are known."""

import html.parser
import itertools
import json

import numpy as np
import pytest
from task_data_help import ragged, write

from taskmask import inspect
from taskmask.analysis.inspect.groupings import frequency_tenths, of_column, words_of
from taskmask.analysis.inspect.inspection import Inspection, spread
from taskmask.analysis.inspect.mask_stats import span_lengths
from taskmask.analysis.inspect.records import Shown
from taskmask.analysis.inspect.render_text import extremes, spaced
from taskmask.config.settings import DataSettings
from taskmask.data.batch import TokenBatch
from taskmask.data.dataset import Column
from taskmask.errors import ConfigError, DataError
from taskmask.maskers.base import Masker, MaskerConfig, register_masker
from taskmask.registry import MASKERS
from taskmask.system.text_tables import aligned
from taskmask.tokenizer.tokenizer import Vocabulary, train_vocabulary

TEXTS = ["the quick foxes jump over the lazy dogs", "unbelievable foxes jump", "dogs", "the dogs jump the foxes"] * 12
SENTENCES = DataSettings(blocks="sentence")


class ScoredConfig(MaskerConfig):
    """Options."""


@pytest.fixture(scope="module", autouse=True)
def policies():
    """Policies whose choice is known: every second token, in two views that share the row out, by a column's score."""
    MASKERS.names()
    before = dict(MASKERS._entries)

    @register_masker("seconds")
    def seconds(batch, rng):
        """Masks every second place."""
        return batch.maskable & (np.arange(batch.shape[1]) % 2 == 0)

    @register_masker("third", promises=("own_budget",))
    def third(batch, rng):
        """Masks every third place."""
        return batch.maskable & (np.arange(batch.shape[1]) % 3 == 0)

    @register_masker("nothing")
    def nothing(batch, rng):
        """Masks nothing."""
        return np.zeros(batch.shape, bool)

    @register_masker("halves")
    class Halves(Masker):
        """Two views that cover the row."""

        views = 2

        def select(self, batch, rng):
            even = np.arange(batch.shape[1]) % 2 == 0
            return np.stack([batch.maskable & even, batch.maskable & ~even])

    @register_masker("top")
    class Top(Masker):
        """Masks where the column is above a half, and goes by it."""

        columns = ("importance",)

        def scores(self, rows):
            return rows.columns["importance"]

        def select(self, batch, rng):
            return batch.maskable & (batch.columns["importance"] > 0.5)

    yield
    MASKERS._entries.clear()
    MASKERS._entries.update(before)


@pytest.fixture(scope="module")
def vocab():
    return Vocabulary(train_vocabulary(["the quick brown foxes jump over the lazy dogs"] * 20, 290, "bpe"))


@pytest.fixture(scope="module")
def data(vocab, tmp_path_factory):
    """Texts with a score of each token, a mark of those in "dogs", and a label of each row."""
    rows = [np.append(ids, vocab.eos) for ids in vocab.encode(TEXTS)]
    dogs = vocab.encode(["dogs"])[0]
    importance = [np.linspace(0, 1, len(row)).astype(np.float32) for row in rows]
    columns = {
        "tokens": (Column("ragged", vocab.token_dtype), ragged(rows)),
        "importance": (Column("aligned", "float32", of="tokens"), ragged(importance)[0]),
        "is_dog": (Column("aligned", "uint8", of="tokens"), ragged([np.isin(r, dogs) for r in rows])[0].astype(int)),
        "label": (Column("row", "int32"), np.arange(len(rows)) % 2),
    }
    folder = tmp_path_factory.mktemp("inspect") / "data"
    write(folder, vocab, {"train": columns}, {"label": ["odd", "even"]})
    return str(folder)


def look(data, *maskers, **options):
    return inspect(data, maskers, rows_of=SENTENCES, **{"draws": 3, **options})


def test_counts_are_those_of_the_masks(data, vocab):
    """Of the policy that masks every second place, all can be counted from the texts."""
    seen = look(data, "seconds", "nothing")
    one, none = seen.observed
    rows = [ids[: DataSettings().length - 2] for ids in vocab.encode(TEXTS)]
    masked = [np.arange(len(row)) % 2 == 1 for row in rows]  # place 0 is <s>
    total, chosen = sum(map(len, rows)), sum(int(m.sum()) for m in masked)
    assert (one.maskable, one.masked, one.views) == (3 * total, 3 * chosen, 1) and one.ratio == chosen / total
    assert one.ratios == pytest.approx(np.tile([m.mean() for m in masked], 3))
    assert one.spread == pytest.approx(np.std([m.mean() for m in masked]))
    assert one.spans[1] == 3 * chosen and one.spans.sum() == 3 * chosen and one.span == 1
    assert sum(one.replaced.values()) == 3 * chosen and one.empty == np.mean([not m.any() for m in masked])
    assert (none.masked, none.ratio, none.empty, none.span) == (0, 0, 1, 0)
    for division in seen.divisions:
        assert (
            one.there[division.name].sum() <= 3 * total
            and (one.chosen[division.name] <= one.there[division.name]).all()
        )
        assert none.chosen[division.name].sum() == 0


def test_by_columns_words_and_pieces(data, vocab):
    seen = look(data, "top")
    (one,) = seen.observed
    by = {division.name: division for division in seen.divisions}
    assert by["column label"].labels == ["odd", "even"] and by["column is_dog"].labels == ["0", "1"]
    scores = one.shares("column importance")
    assert len(scores) == 5 and scores[:2].tolist() == [0, 0] and scores[3:].tolist() == [1, 1]
    words = seen.divisions[-1]
    there = dict(zip(words.labels, (one.there["word"] / 3 / np.array(words.pieces)).tolist(), strict=True))
    expected = {word: sum(text.split().count(word) for text in TEXTS) for text in TEXTS for word in text.split()}
    assert there == expected
    lengths = dict(zip(by["word length"].labels, one.there["word length"].tolist(), strict=True))
    pieces = [len(vocab.encode([word])[0]) for text in TEXTS for word in text.split()]
    words_in_texts = [word for text in TEXTS for word in text.split()]
    assert lengths["3"] == 3 * sum(n for n, word in zip(pieces, words_in_texts, strict=True) if len(word) == 3)
    assert lengths["10+"] == 3 * sum(n for n, word in zip(pieces, words_in_texts, strict=True) if len(word) >= 10)
    assert by["pieces"].labels == ["1", "2", "3", "4", "5+"]
    assert one.there["pieces"].tolist() == [3 * sum(n for n in pieces if n == k) for k in range(1, 5)] + [
        3 * sum(n for n in pieces if n > 4)
    ]


def test_overlaps(data):
    seen = look(data, "seconds", "halves", "nothing", "uniform ratio=1")
    first = seen.overlaps
    assert first[0, 0] == first[0, 1] == first[1, 0] == 1  # the same places, in every epoch
    assert first[0, 2] == first[2, 0] == 0 and first[2, 2] == 0
    assert first[0, 3] == pytest.approx(np.nanmean(seen.observed[0].ratios)) and first[3, 3] == 1


def test_chance_names_no_word_and_preference_does(data):
    seen = look(data, "uniform ratio=0.3", "span ratio=0.3", draws=30)
    assert [extremes(one, seen.divisions[-1]) for one in seen.observed] == [([], []), ([], [])]
    top = look(data, "top", draws=10)
    most, least = extremes(top.observed[0], top.divisions[-1])
    assert {"over", "lazy"} <= dict(most).keys() and "quick" in dict(least)
    assert [share for _, share in most] == sorted((share for _, share in most), reverse=True)


def test_views_stand_side_by_side_and_scores_are_shown(data):
    seen = look(data, "halves", "top", rows=2)
    assert [one.policy for one in seen.shown] == ["halves, view 1", "halves, view 2", "top"] * 2
    first, second, top = seen.shown[:3]
    assert (first.chosen ^ second.chosen).all() and len(first.pieces) == len(first.chosen) == len(first.tint)
    assert first.rate.tolist() == first.chosen.tolist() and not first.is_score
    assert top.is_score and top.tint.min() == 0 and top.tint.max() == 1 and top.rate.max() < 1
    assert seen.observed[0].ratio == 0.5 and seen.observed[0].views == 2


def test_a_policy_that_decides_itself_how_much_is_asked_for_no_share(data):
    seen = look(data, "third", "seconds")
    assert [one.asked for one in seen.observed] == [None, 0.15]
    assert next(line for line in seen.lines() if line.startswith("third") and "±" in line).split()[1] == "own"
    assert seen.to_dict()["policies"][0]["asked"] is None and ">own<" in seen.page()


def test_typed_text(data):
    seen = look(data, "seconds", texts=["the quick foxes", "dogs"])
    assert len(seen.shown) == 2 and seen.observed == [] and "".join(seen.shown[1].pieces) == "▁dogs"
    assert any("[" in line for line in seen.lines())
    for texts, said in (([" "], "is empty"), (["dogs"], "typed text does not have")):
        with pytest.raises(DataError, match=said):
            look(data, "top", texts=texts) if texts == ["dogs"] else look(data, "seconds", texts=texts)


def test_the_lines_bracket_what_is_masked_whatever_the_terminal(data):
    seen = look(data, "seconds", rows=1)
    shown = seen.shown[0]
    plain, colourful = "\n".join(seen.lines()), "\n".join(seen.lines(colour=True, width=60))
    assert "\x1b" not in plain and "\x1b[" in colourful
    assert plain.count("[") - 1 >= int(shown.chosen.sum())  # one in the line that explains them
    for wanted in ("seconds", "masked by frequency", "masked by column label", "length of runs", "words masked more"):
        assert wanted in plain
    assert not any(len(line) > 60 for line in "\n".join(seen.lines(width=60)).split("policy ")[0].splitlines()[2:])


def test_signs_that_are_pieces_of_bytes_are_shown(vocab):
    pieces = ["▁a", "<0x3C>", "<0x20>", "<0x7F>", "<0xF0>", "▁", "<0x0A>"]
    row = Shown(0, "one", pieces, np.arange(7), np.zeros(7, bool), np.zeros(7), np.zeros(7), False)
    assert [text for text, _ in spaced(row)] == ["a", "<", "<0x20>", "<0x7F>", "<0xF0>", "␣", "<0x0A>"]


def test_tables_of_wide_letters_are_aligned():
    lines = aligned([("", "a"), ("亿 打", "15 %"), ("e\u0301", "1 %")])
    assert lines == ["          a", "亿 打  15 %", "e\u0301       1 %"]
    assert aligned([("a", "b", "c"), ("1", "22", "3")], [0]) == ["a  b   c", "1  22  3"]


class Balance(html.parser.HTMLParser):
    """Checks that every element is closed, in its order."""

    def __init__(self):
        super().__init__()
        self.open, self.seen = [], []

    def handle_starttag(self, tag, attrs):
        self.seen.append((tag, dict(attrs)))
        if tag not in ("meta", "wbr", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_the_page_stands_alone(data):
    seen = look(data, "seconds", "span p=0.4", "nothing")
    page = Balance()
    page.feed(seen.page())
    assert page.open == [] and not [tag for tag, _ in page.seen if tag in ("script", "link", "img")]
    assert not [a for _, attributes in page.seen for a in attributes if a in ("src", "href") or a.startswith("on")]
    masked = [a for tag, a in page.seen if tag == "span" and "m" in a.get("class", "").split() and "title" in a]
    assert len(masked) == sum(int(one.chosen.sum()) for one in seen.shown)
    assert seen.page() == look(data, "seconds", "span p=0.4", "nothing").page()  # nothing in it depends on the moment
    frame = Balance()
    frame.feed(seen._repr_html_())
    assert frame.seen[0][0] == "iframe" and frame.open == []


def test_the_figures_are_json(data):
    figures = look(data, "seconds", "nothing").to_dict()
    assert json.loads(json.dumps(figures, allow_nan=False)) == figures
    first = figures["policies"][0]
    assert first["policy"] == "seconds" and 0 < first["masked"] < 1 and sum(first["spans"]) == first["spans"][0]
    assert figures["rows"][0]["masked"] == list(range(1, len(figures["rows"][0]["pieces"]), 2))  # place 0 is <s>


@pytest.mark.parametrize(
    ("maskers", "options", "error", "said"),
    [
        (["spam"], {}, ConfigError, "unknown masker 'spam'"),
        (["span q=1"], {}, ConfigError, "unknown option span.q"),
        (["span p"], {}, ConfigError, "'p' has no value"),
        (["span", "span"], {}, ConfigError, "names 'span' twice"),
        (["uniform"], {"rows": 0}, ConfigError, "--rows: is 0"),
        (["uniform"], {"draws": 0}, ConfigError, "--draws: is 0"),
        (["uniform"], {"split": "tests"}, DataError, "no split 'tests'"),
    ],
)
def test_what_is_wrong_is_said(data, maskers, options, error, said):
    with pytest.raises(error, match=said):
        look(data, *maskers, **options)


def test_a_column_that_is_not_there(data, vocab, tmp_path):
    rows = [np.append(ids, vocab.eos) for ids in vocab.encode(["the dogs"])]
    write(tmp_path / "bare", vocab, {"train": {"tokens": (Column("ragged", vocab.token_dtype), ragged(rows))}})
    with pytest.raises(DataError, match=r"masker top, .*reads column 'importance'.*taskmask annotate"):
        look(str(tmp_path / "bare"), "top")
    with pytest.raises(ConfigError, match="no dataset is named"):
        look("", "uniform")


def test_a_script_without_spaces(tmp_path):
    texts = ["我爱北京天安门，今天的天气很好。", "今日は天気がいいですね。"] * 20
    vocab = Vocabulary(train_vocabulary(texts, 320, "bpe", character_coverage=0.99))
    rows = [np.append(ids, vocab.eos) for ids in vocab.encode(texts)]
    write(tmp_path / "zh", vocab, {"train": {"tokens": (Column("ragged", vocab.token_dtype), ragged(rows))}})
    seen = look(str(tmp_path / "zh"), "whole_word", "span")
    assert seen.page() and seen.lines(True) and seen.observed[0].ratio == pytest.approx(0.15, abs=0.02)


def test_runs_of_masked_tokens():
    mask = np.array([[1, 1, 0, 1], [1, 0, 0, 1], [0, 0, 0, 0], [1, 1, 1, 1]], bool)
    assert span_lengths(mask).tolist() == [2, 1, 1, 1, 4]
    assert span_lengths(mask[None]).tolist() == [2, 1, 1, 1, 4]
    random = np.random.default_rng(0).random((50, 17)) < 0.4
    by_hand = [len(list(run)) for row in random for value, run in itertools.groupby(row) if value]
    assert span_lengths(random).tolist() == by_hand


def test_tenths_of_the_text_hold_as_much_text_each(vocab):
    counts = np.random.default_rng(1).zipf(1.3, vocab.size).clip(1, 10_000)
    tenths = frequency_tenths(counts, vocab)
    own = np.where(vocab.is_special, 0, counts)
    order = np.argsort(-own, kind="stable")
    assert (np.diff(tenths[order]) >= 0).all() and tenths.min() >= 0 and tenths.max() == 9
    even = frequency_tenths(np.ones(vocab.size, int), vocab)
    assert np.ptp(np.bincount(even[~vocab.is_special])) <= 1


def test_words_of_rows_with_specials_in_the_middle(vocab):
    first, second = vocab.encode(["the foxes", "dogs"])
    tokens = np.array([[vocab.bos, *first, vocab.eos, *second, vocab.eos]])
    words = words_of([TokenBatch(tokens, np.array([tokens.shape[1]]), np.array([0]), vocab)])
    assert words.labels == ["the", "foxes", "dogs"]
    assert (words.index[0][0] >= 0).sum() == len(first) + len(second) and words.index[0][0, 1 + len(first)] == -1


@pytest.mark.parametrize(("total", "wanted"), [(10, 10), (10, 3), (3, 10), (1, 1), (1000, 7)])
def test_rows_are_spread_evenly(total, wanted):
    rows = spread(total, wanted)
    assert len(rows) == min(total, wanted) == len(set(rows.tolist())) and rows.min() >= 0 and rows.max() < total
    assert np.ptp(np.diff(rows)) <= 1 if len(rows) > 2 else True


def test_names_are_escaped():
    seen = Inspection("a <b> & c", ["<i>"], [])
    page = seen.page()
    assert "<b>" not in page and "<i>" not in page and "a &lt;b&gt; &amp; c" in page


def test_a_row_without_a_number_is_in_no_fifth(vocab):
    tokens = np.tile([vocab.bos, 20, 21, vocab.eos], (6, 1))
    numbers = np.array([1, 2, 3, 4, 5, np.nan], np.float32)
    rows = TokenBatch(tokens, np.full(6, 4), np.arange(6), vocab, {"score": numbers})
    groups = of_column("score", [rows], None)
    assert groups.index[0][:, 1].tolist() == [0, 1, 2, 3, 4, -1]
