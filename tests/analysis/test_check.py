"""The conformance kit: built-in maskers keep every law, each fault breaks the law that forbids it, and no other."""

import dataclasses
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from taskmask import check_masker
from taskmask.analysis.check import bench, cases, harness
from taskmask.analysis.check.bench import Bench
from taskmask.analysis.check.cases import KINDS, Case, Line, vocabularies
from taskmask.analysis.check.other_process import other_process
from taskmask.data.rng import RowRng
from taskmask.errors import ConfigError, RegistryError
from taskmask.maskers.base import Masker, MaskerConfig, register_masker, sample_tokens, sample_units
from taskmask.maskers.policy import read_policy
from taskmask.registry import MASKERS

BUILT_IN = [name for name in MASKERS.names() if "/taskmask/maskers/" in MASKERS.where(name)]
EXAMPLE = Path(__file__).parent.parent.parent / "examples" / "custom_masker"
ALWAYS = (
    "runs on every row",
    "returns bool [views, rows, tokens]",
    "no special piece, no padding",
    "no piece that masker.never names",
    "leaves the rows as they are",
    "prints nothing",
    "drawn anew in every epoch",
    "drawn for each row",
    "no more than the ratio",
    "no row empty without need",
    "any batch, order and padding",
    "no global state",
    "any world size, any resume",
    "any number of workers",
)
RUNS, SHAPE, SPECIALS, NEVER, ROWS, SILENT, ANEW, EACH_ROW, RATIO, EMPTY, BATCHES, STATE, WORLDS, WORKERS = ALWAYS
MEAN, BUDGET, WORDS = "the ratio on average", "the budget in every row", "whole words"


@pytest.fixture
def one_vocabulary(monkeypatch):
    """Checks with one vocabulary alone and in fewer epochs, several times as fast."""
    monkeypatch.setattr(harness, "NUM_EPOCHS", 3)
    monkeypatch.setattr(harness, "vocabularies", lambda: ({"bpe": vocabularies()[0]["bpe"]}, ()))


def statuses(report):
    return {law.name: law.status for law in report.laws}


def broken(report):
    return {law.name for law in report.laws if law.status == "broken"}


def law_of(report, name):
    return next(law for law in report.laws if law.name == name)


# ---- what keeps the laws


@pytest.mark.parametrize("name", BUILT_IN)
def test_a_built_in_masker_keeps_every_law_with_every_vocabulary(name):
    report = check_masker(name)
    report.assert_passed()
    assert set(ALWAYS) < set(statuses(report)) and {statuses(report)[law] for law in ALWAYS} == {"kept"}
    promised = {law for law, status in statuses(report).items() if status == "kept"} - set(ALWAYS)
    off_a_word = "the budget in every row, but for a word"
    assert promised == {
        "uniform": {MEAN, BUDGET},
        "whole_word": {MEAN, off_a_word, WORDS},
        "span": {MEAN, WORDS},
        "mix": {MEAN},
        "whole_unit": {MEAN, WORDS},
        "infilling": {WORDS},
        "t5_span": set(),
    }.get(name, promised)
    assert report.tokens_per_second > 100_000 and report.masker == name
    left_out = [note for note in report.notes if "is left out" in note]
    assert report.vocabularies == (KINDS[:2] if left_out else KINDS)


@pytest.mark.parametrize(
    "policy",
    ["span unit=token lengths=poisson", "span p=0.1 longest=40", "uniform ratio=0.01", "whole_word ratio=0.8",
     "uniform ratio=0", "mix of=uniform,whole_word ratio=0.4", "whole_word ratio=0.3 ratio_end=0.1",
     "uniform never=the,s always=i,a", "whole_word always=i,a never=the"],
)  # fmt: skip
def test_options_change_no_law(policy, one_vocabulary):
    check_masker(policy).assert_passed()


def test_the_examples_keep_the_laws(one_vocabulary):
    check_masker("long_words power=2", user_dir=EXAMPLE / "my_masker.py").assert_passed()
    report = check_masker("first_letters", user_dir=[str(EXAMPLE / "package" / "first_letters.py")])
    report.assert_passed()
    assert "; 0.00% in arabic to 14.73% in english" in law_of(report, RATIO).says  # less, as was never promised
    assert statuses(report)[MEAN] == "not promised" and law_of(report, MEAN).says == law_of(report, RATIO).says


def test_promises_follow_the_options():
    vocab = vocabularies()[0]["bpe"]

    def promises(text):
        return set(MASKERS.get(text.split()[0]).make(read_policy(text).options, vocab).promises)

    assert promises("span") == {"mean_budget", "whole_words"} and promises("span unit=token") == {"mean_budget"}
    assert promises("mix") == {"mean_budget"} and promises("mix of=uniform") == {"mean_budget", "exact_budget"}
    assert promises("mix of=whole_word,span") == {"mean_budget", "whole_words"}
    entry = MASKERS.get("mix")
    mixed = entry.make(entry.config(of=("uniform ratio=0.5", "uniform")), vocab)
    assert set(mixed.promises) == set()  # of a share that only one of its parts has
    register_masker("own", promises=("own_budget",))(lambda batch, rng: batch.maskable)
    assert promises("mix of=own,uniform") == {"own_budget"}  # what holds for some rows


# ---- what breaks them


def coin(batch, rng, ratio, stream="coin"):
    return batch.maskable & (rng.uniform(stream, batch.shape[1]) < ratio)


def specials(batch, rng, *, ratio: float = 0.15):
    return rng.uniform("coin", batch.shape[1]) < ratio


def padding(batch, rng, *, ratio: float = 0.15):
    return (rng.uniform("coin", batch.shape[1]) < ratio) & ~batch.vocab.is_special[batch.tokens] | ~batch.keep


def ignores_never(batch, rng, *, ratio: float = 0.15):
    return (rng.uniform("coin", batch.shape[1]) < ratio) & ~batch.vocab.is_special[batch.tokens]


def numbers(batch, rng, *, ratio: float = 0.15):
    return coin(batch, rng, ratio).astype(int)


def narrow(batch, rng, *, ratio: float = 0.15):
    return coin(batch, rng, ratio)[:, 1:]


def raises(batch, rng, *, ratio: float = 0.15):
    return batch.columns["nothing"]


def empties_rows(batch, rng, *, budget):
    mask = sample_tokens(batch.maskable * 1.0, budget, rng.uniform("empties", batch.shape[1]))
    return mask & (rng.uniform("rows", 1) > 0.6)


def raises_on_empty_rows(batch, rng, *, ratio: float = 0.15):
    best = [np.flatnonzero(row)[0] for row in batch.maskable]
    return coin(batch, rng, ratio) & (np.arange(batch.shape[1]) >= np.array(best)[:, None])


def writes_tokens(batch, rng, *, ratio: float = 0.15):
    batch.tokens[:, 1] = batch.vocab.mask
    return coin(batch, rng, ratio)


def prints(batch, rng, *, ratio: float = 0.15):
    print("rows", len(batch.ids))
    return coin(batch, rng, ratio)


def ends_the_process(batch, rng):
    sys.exit("out of words")


def returns_none(batch, rng):
    return None


def returns_places(batch, rng, *, ratio: float = 0.15):
    return [np.flatnonzero(row).tolist() for row in coin(batch, rng, ratio)]


def writes_maskable(batch, rng, *, ratio: float = 0.15):
    mask = batch.maskable
    mask &= coin(batch, rng, ratio)
    return mask.copy()


def ignores_ratio(batch, rng):
    return coin(batch, rng, 0.4)


class IgnoresSchedule(Masker):
    """Reads the ratio of the beginning."""

    def select(self, batch, rng):
        return coin(batch, rng, self.config.ratio)


def half_or_nothing(batch, rng, *, ratio: float = 0.15):
    half = np.cumsum(batch.maskable, axis=1) * 2 <= batch.maskable.sum(axis=1, keepdims=True)
    return batch.maskable & half & (rng.uniform("coin", 1) < 2 * ratio)


def nothing(batch, rng):
    return np.zeros(batch.shape, bool)


def same_every_epoch(batch, rng, *, ratio: float = 0.15):
    return coin(batch, RowRng(0, 0, batch.ids), ratio)


def same_for_every_seed(batch, rng, *, ratio: float = 0.15):
    return coin(batch, RowRng(0, rng.epoch, batch.ids), ratio)


def same_for_every_row(batch, rng, *, ratio: float = 0.15):
    return coin(batch, RowRng(rng.seed, rng.epoch, 0 * batch.ids), ratio)


def depends_on_width(batch, rng, *, ratio: float = 0.15):
    return batch.maskable & (rng.uniform("coin", batch.shape[1])[:, ::-1] < ratio)


def masks_padding_by_width(batch, rng, *, ratio: float = 0.15):
    """Chooses the last place of a batch that is wider than that of a row alone."""
    mask = coin(batch, rng, ratio)
    mask[:, -1] |= ~batch.keep[:, -1]
    return mask


def depends_on_the_batch(batch, rng, *, ratio: float = 0.15):
    return coin(batch, rng, ratio, f"coin {batch.ids[0]}")


def depends_on_the_number_of_rows(batch, rng, *, ratio: float = 0.15):
    return coin(batch, rng, ratio, f"coin {len(batch.ids)}")


def global_numpy(batch, rng, *, ratio: float = 0.15):
    return batch.maskable & (np.random.random(batch.shape) < ratio)


def global_python(batch, rng, *, ratio: float = 0.15):
    return coin(batch, rng, ratio, f"coin {random.random()}")


def seeds_numpy(batch, rng, *, ratio: float = 0.15):
    np.random.seed(0)
    return coin(batch, rng, ratio)


def entropy(batch, rng, *, ratio: float = 0.15):
    return batch.maskable & (np.random.default_rng().random(batch.shape) < ratio)


FAULTS = [
    (specials, {SPECIALS, NEVER}),
    (padding, {SPECIALS, NEVER}),
    (ignores_never, {NEVER}),
    (numbers, {SHAPE}),
    (narrow, {SHAPE}),
    (raises, {RUNS}),
    (raises_on_empty_rows, {RUNS}),
    (empties_rows, {EMPTY}),
    (writes_tokens, {ROWS}),
    (writes_maskable, {ROWS}),
    (prints, {SILENT}),
    (ends_the_process, {RUNS}),
    (returns_none, {SHAPE}),
    (returns_places, {SHAPE}),
    (ignores_ratio, {RATIO}),
    (IgnoresSchedule, {RATIO}),
    (half_or_nothing, {EMPTY}),
    (nothing, {EMPTY}),
    (same_every_epoch, {ANEW}),
    (same_for_every_seed, {ANEW}),
    (same_for_every_row, {EACH_ROW}),
    (depends_on_width, {BATCHES, WORLDS}),
    (masks_padding_by_width, {SPECIALS}),
    (depends_on_the_batch, {BATCHES, WORLDS}),
    (depends_on_the_number_of_rows, {BATCHES, WORLDS}),
    (global_numpy, {BATCHES, STATE, WORLDS, WORKERS}),
    (global_python, {BATCHES, STATE, WORLDS, WORKERS}),
    (seeds_numpy, {STATE, WORKERS}),
    (entropy, {BATCHES, STATE, WORLDS, WORKERS}),
]


@pytest.mark.parametrize(("function", "laws"), FAULTS, ids=[function.__name__ for function, _ in FAULTS])
def test_a_fault_breaks_its_law_and_no_other(function, laws, one_vocabulary):
    register_masker("faulty")(function)
    report = check_masker("faulty")
    assert broken(report) == laws and not report.passed
    for law in report.laws:
        example = law.counterexample
        assert (example is None) == (law.status != "broken")
        assert example is None or len(example.rows) == len(example.ids) == len(example.tokens) <= 3
        assert law.status != "not reached" or "see above" in law.says
    with pytest.raises(AssertionError, match=r"(?s)faulty breaks \d+ of \d+ laws.*") as caught:
        report.assert_passed()
    shown = str(caught.value)
    assert all(f"broken        {law} " in shown for law in laws) and "vocabulary bpe" in shown


def exactly(batch, rng, *, ratio: float = 0.15):
    return coin(batch, rng, ratio)


def too_few(batch, rng, *, ratio: float = 0.15):
    return coin(batch, rng, ratio * 0.93)


def torn(batch, rng, *, budget):
    return sample_tokens(batch.maskable * 1.0, budget, rng.uniform("torn", batch.shape[1]))


def a_word_more(batch, rng, *, budget):
    return sample_units(batch.words, batch.maskable, budget + 3 * (budget > 3), rng)


@pytest.mark.parametrize(
    ("function", "promises", "laws"),
    [
        (exactly, ("exact_budget",), {BUDGET}),
        (exactly, ("mean_budget",), set()),
        (too_few, ("mean_budget",), {MEAN}),
        (too_few, (), set()),
        (torn, ("exact_budget", "mean_budget"), set()),
        (torn, ("whole_words",), {WORDS}),
        (a_word_more, ("whole_words", "budget_within_a_word"), {"the budget in every row, but for a word"}),
        (a_word_more, ("mean_budget",), {MEAN}),
        (a_word_more, (), set()),
        (exactly, ("same_every_epoch",), {"the same in every epoch"}),
        (same_every_epoch, ("same_every_epoch",), set()),
    ],
)
def test_a_promise_is_put_to_the_test(function, promises, laws, one_vocabulary):
    register_masker("promising", promises=promises)(function)
    assert broken(check_masker("promising")) == laws


def every_seventh(batch, rng):
    return batch.maskable & (np.cumsum(batch.maskable, axis=1) % 7 == 0)


def three_a_row(batch, rng):
    num = np.minimum(batch.maskable.sum(axis=1), 3)
    return sample_tokens(batch.maskable * 1.0, num, rng.uniform("three", batch.shape[1]))


def all_or_nothing(batch, rng, *, ratio: float = 0.15):
    return batch.maskable & (rng.uniform("all", 1) < ratio)


@pytest.mark.parametrize(
    ("function", "promises"),
    [
        (every_seventh, ("own_budget", "same_every_epoch")),
        (three_a_row, ("own_budget",)),
        (all_or_nothing, ()),
        (all_or_nothing, ("whole_words", "mean_budget")),
    ],
)
def test_unusual_policies_are_no_faults(function, promises, one_vocabulary):
    register_masker("unusual", promises=promises)(function)
    report = check_masker("unusual")
    report.assert_passed()
    assert (statuses(report)[RATIO] == "not promised") == ("own_budget" in promises)
    assert "of all tokens where 15.00% are to be masked" in law_of(report, RATIO).says


def test_a_policy_that_leaves_the_ratio_is_told_how_to_say_so(one_vocabulary):
    def more(batch, rng, *, ratio: float = 0.15):
        return coin(batch, rng, 1.3 * ratio)

    register_masker("own", promises=("same_every_epoch",))(every_seventh)
    report = check_masker("own")
    assert broken(report) == {RATIO} and law_of(report, RATIO).says.endswith("promises own_budget")
    register_masker("more")(more)
    report = check_masker("more")
    assert broken(report) == {RATIO} and "own_budget" not in law_of(report, RATIO).says


def test_a_policy_that_masks_nothing_at_all(one_vocabulary):
    register_masker("nothing")(nothing)
    report = check_masker("nothing")
    assert broken(report) == {EMPTY} and law_of(report, EMPTY).says == "nothing is masked in any draw of any row"
    register_masker("nothing_of_its_own", promises=("own_budget",))(nothing)
    check_masker("nothing_of_its_own").assert_passed()

    @register_masker("values")
    class Values(Masker):
        """Masks values that the columns which are made up do not have."""

        columns = ("entity",)

        def select(self, batch, rng):
            return batch.maskable & (batch.columns["entity"] > 6)

    check_masker("values").assert_passed()
    assert broken(check_masker("values", columns=cases.made_up)) == {EMPTY}


def test_promises_that_nobody_knows():
    with pytest.raises(RegistryError, match=r"masker 'mine': promises 'whole_word'; .*did you mean 'whole_words'"):
        register_masker("mine", promises=("whole_word",))

    @register_masker("mine")
    class Mine(Masker):
        """Promises when it is made."""

        def __init__(self, config, vocab):
            super().__init__(config, vocab)
            self.promises = ("exact_bugdet",)

    with pytest.raises(ConfigError, match=r"masker mine: promises 'exact_bugdet'; .*did you mean 'exact_budget'"):
        check_masker("mine")


def test_the_counterexample_is_the_smallest_and_says_what_is_wrong(one_vocabulary):
    register_masker("faulty")(specials)
    law = law_of(check_masker("faulty"), SPECIALS)
    example = law.counterexample
    (row,), (content,), (id,) = example.rows, example.tokens, example.ids
    at = next(place for place, piece in enumerate(row.split()) if piece.startswith("[["))
    assert law.says == f"position {at} of row {id}: it is masked" and len(row.split()) <= 4
    rows = cases.rows_of(vocabularies()[0][example.vocabulary], Case((Line(example.script, content, id),)))
    assert specials(rows, RowRng(example.seed, example.epoch, rows.ids))[0, at] and not rows.maskable[0, at]

    register_masker("tearing", promises=("whole_words",))(torn)
    law = law_of(check_masker("tearing"), WORDS)
    (row,) = law.counterexample.rows
    assert "it is not masked, unlike others of its word, " in law.says and len(row.split()) <= 6

    register_masker("raising")(raises_on_empty_rows)
    law = law_of(check_masker("raising"), RUNS)
    assert "masker raising, row 0, " in law.says and f"{Path(__file__).name}:" in law.says
    assert law.counterexample.rows == ("<s> </s>",)

    register_masker("padding")(padding)
    law = law_of(check_masker("padding"), SPECIALS)
    assert law.says.endswith("padding is masked") and "[[<pad>]]" in " ".join(law.counterexample.rows)


def test_what_fails_says_how(one_vocabulary):
    for function, name, says in (
        (prints, SILENT, "it prints 'rows 1'"),
        (ends_the_process, RUNS, "SystemExit: out of words"),
        (returns_none, SHAPE, "returned None; expected bool [1, 1, 2]"),
    ):
        register_masker(function.__name__)(function)
        assert says in law_of(check_masker(function.__name__), name).says


def test_a_policy_that_never_ends(monkeypatch, one_vocabulary):
    """It is found on a row alone, once; an alarm of somebody else is as it was."""
    calls = []

    def endless(batch, rng, *, ratio: float = 0.15):
        calls.append(len(batch.ids))
        mask = coin(batch, rng, ratio)
        while not batch.maskable.any(axis=1).all():
            try:
                time.sleep(0.01)
            except Exception:
                continue
        return mask

    monkeypatch.setattr(bench, "PATIENCE", 0.2)
    monkeypatch.setattr(bench, "PATIENCE_PER_TOKEN", 0)
    register_masker("endless")(endless)
    handler = signal.getsignal(signal.SIGALRM)
    before = signal.setitimer(signal.ITIMER_REAL, 600)
    try:
        report = check_masker("endless")
        left, _ = signal.getitimer(signal.ITIMER_REAL)
    finally:
        signal.setitimer(signal.ITIMER_REAL, *before)
    law = law_of(report, RUNS)
    assert broken(report) == {RUNS} and law.says == "it is not done after 0 seconds"
    assert law.counterexample.rows == ("<s> </s>",) and 1 in calls and len(calls) < 5
    assert signal.getsignal(signal.SIGALRM) == handler and 500 < left < 600
    reached = {law.status for law in report.laws} - {"not promised"}
    assert reached == {"broken", "not reached"} and report.lines()[-1].startswith(
        "endless breaks 1 of 14 laws, 13 were"
    )


def test_what_is_not_promised_is_measured(one_vocabulary):
    register_masker("mine")(torn)
    report = check_masker("mine")
    assert "of the words of several tokens that are masked are masked in part" in law_of(report, WORDS).says
    assert law_of(report, BUDGET).says.startswith("rows of 96 tokens: 14.6% to 15.6% of a row")
    assert law_of(report, MEAN).status == "not promised" and "15.0" in law_of(report, MEAN).says
    assert report.passed


def test_twice_the_same_and_plain_data(one_vocabulary):
    first, second = (check_masker("span").to_dict() for _ in range(2))
    first.pop("tokens_per_second"), second.pop("tokens_per_second")
    assert first == second
    register_masker("faulty")(IgnoresSchedule)
    found = json.loads(json.dumps(check_masker("faulty").to_dict(), allow_nan=False))
    example = next(law["counterexample"] for law in found["laws"] if law["name"] == RATIO)
    assert found["passed"] is False and example["options"]["ratio_end"] == 0.05 and example["progress"] == 1.0


def test_columns_and_views(one_vocabulary):
    @register_masker("reader")
    class Reader(Masker):
        """Reads a value for each token, and one for each row; two views."""

        columns, views, promises = ("score", "weight"), 2, ("exact_budget", "mean_budget")

        def select(self, batch, rng):
            assert batch.columns["weight"].shape == (len(batch.ids),)
            weights = batch.maskable * (1.0 + batch.columns["score"])
            budget = self.budget(batch, rng)
            return np.stack([sample_tokens(weights, budget, rng.uniform(f"{k}", batch.shape[1])) for k in range(2)])

    report = check_masker("reader")
    assert broken(report) == {RUNS}  # as both are made up for each token, of which a note tells
    assert report.notes[0].startswith("columns made up for it, 0 and 1 for each token: score, weight; ")

    def columns(rows, name):
        return rows.lengths * 1.0 if name == "weight" else (rows.tokens % 3).astype(float)

    check_masker("reader", columns=columns).assert_passed()


def test_a_list_that_some_vocabularies_do_not_know(monkeypatch):
    made, _ = vocabularies()
    known, unknown = (made["unigram"], made["bpe"])
    piece = next(p for p in known.pieces(range(300, 600)) if p not in set(unknown.pieces(range(unknown.size))))
    monkeypatch.setattr(harness, "vocabularies", lambda: ({"bpe": unknown, "unigram": known}, ()))
    report = check_masker(f"uniform never={piece}")
    assert report.vocabularies == ("unigram",) and report.passed and "bpe is left out: masker.never" in report.notes[0]
    with pytest.raises(ConfigError, match=r"masker.never: 'zzqqx' is no piece"):
        check_masker("uniform never=zzqqx")


def test_without_the_package_tokenizers(monkeypatch):
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    for made in (cases._wordpiece, cases._byte_bpe):
        made.cache_clear()
    made, notes = vocabularies()
    assert list(made) == ["unigram", "bpe"] and len(notes) == 2
    assert notes[0].startswith("wordpiece is left out: it needs the package tokenizers; pip install 'taskmask[hf]'")


def test_wrong_policies():
    for policy, says in [
        ("spam", "unknown masker 'spam'; .*did you mean 'span'"),
        ("", "unknown masker ''"),
        ("span p", "'p' has no value"),
        ("span p=7", "masker.p: is 7.0"),
    ]:
        with pytest.raises(ConfigError, match=says):
            check_masker(policy)
    with pytest.raises(RegistryError, match="does not exist"):
        check_masker("mine", user_dir="nowhere.py")


# ---- another process


PLUG_IN = """import os
import numpy as np
from taskmask import register_masker

print("a plug-in that talks")

@register_masker("elsewhere")
def elsewhere(batch, rng, *, ratio: float = 0.15):
    "Masks."
    {body}
"""


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ('return batch.maskable & (rng.uniform("x", batch.shape[1]) < ratio)', None),
        (
            "return batch.maskable & (rng.uniform(f\"x{hash('a')}\", batch.shape[1]) < ratio)",
            "another process masks it otherwise",
        ),
        (
            'if os.getpid() != {pid}: raise OSError("no such model")\n'
            '    return batch.maskable & (rng.uniform("x", batch.shape[1]) < ratio)',
            "another process cannot mask it: OSError: no such model",
        ),
    ],
)
def test_a_process_that_knows_the_plug_in_alone(body, says, tmp_path, one_vocabulary):
    (tmp_path / "mine.py").write_text(PLUG_IN.format(body=body.replace("{pid}", str(os.getpid()))))
    report = check_masker("elsewhere", user_dir=tmp_path / "mine.py")
    law = law_of(report, WORKERS)
    assert broken(report) == ({WORKERS} if says else set())
    assert (says or "another process, which makes the masker anew, masks the same") in law.says


def test_a_masker_of_this_process_alone_is_made_anew_here(one_vocabulary):
    register_masker("mine")(torn)
    law = law_of(check_masker("mine"), WORKERS)
    assert law.status == "kept" and law.says.startswith("made anew in this process: mine is registered in one process")


def test_another_process_gets_rows_lists_and_columns(one_vocabulary):
    vocab = vocabularies()[0]["bpe"]
    bench = Bench("bpe", vocab, read_policy("uniform never=the,i ratio=0.5 ratio_end=0.9"), cases.made_up)
    assert other_process([bench], [Case(bench.lines, seed=3, epoch=4, progress=0.5)]) is None


# ---- around it


def test_the_global_generators_are_as_they_were(one_vocabulary):
    random.seed(5)
    np.random.seed(5)
    expected = random.Random(5).random(), np.random.RandomState(5).random_sample()
    check_masker("uniform")
    assert (random.random(), np.random.random_sample()) == expected


def test_torch_is_not_needed(tmp_path):
    script = "import sys, taskmask; taskmask.check_masker('uniform').assert_passed(); print('torch' in sys.modules)"
    process = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=tmp_path)
    assert process.stdout == "False\n", process.stderr


def test_the_progress_adds_up(one_vocabulary):
    told = []
    check_masker("uniform", advance=told.append)
    assert sum(told) == pytest.approx(1) and len(told) > 10


def test_options_that_an_author_forbids_are_left_out(one_vocabulary):
    @dataclasses.dataclass(frozen=True)
    class Strict(MaskerConfig):
        """Only its own share."""

        def __post_init__(self):
            if self.ratio != 0.15 or self.ratio_end is not None:
                raise ConfigError("is not 0.15", where="masker.ratio")

    @register_masker("strict", config=Strict, promises=("exact_budget", "mean_budget"))
    class OneShare(Masker):
        """As uniform."""

        def select(self, batch, rng):
            return torn(batch, rng, budget=self.budget(batch, rng))

    check_masker("strict").assert_passed()
