"""What the public commands give for fixed inputs is what they gave when the files of `tests/fixtures/` were written.

So a change of layout, names or speed can show that it moved no number. Everything goes through the command line, so
these tests know of no module but the front door. Whole numbers, texts and bytes are compared exactly; other numbers to
1e-5, as CPUs add up in another order. A change that moves results on purpose renews the files:
`python -m pytest tests/test_nothing_moved.py --renew`.
"""

import contextlib
import csv
import hashlib
import io
import json
import math
import shutil
from pathlib import Path

import pytest

from taskmask import TaskmaskError
from taskmask_cli import main as front

FIXTURES = Path(__file__).with_name("fixtures")
TOLERANCE = 1e-5

# The spelling of settings that the inputs need: the results do not depend on it.
LAYERS, WIDTH, HEADS = "--model.layers", "--model.width", "--model.heads"
SMALL = f"{LAYERS} 1 {WIDTH} 32 {HEADS} 2 --data.length 40 --run.threads 1 --run.tensorboard false".split()
SHORT = ["--train.steps", "20", "--train.max_tokens", "512", "--optim.lr", "5e-3", "--optim.warmup_steps", "0"]
WORDS = ["amber", "basin", "candle", "dapper", "Eagle", "fabric", "garden"]
WORDS += ["harbor", "1984", "island", "jacket", "Kettle", "ladder"]


def words(at, step, num):
    """A stretch of the cycle of words that begins at `at`."""
    return [WORDS[(at + i * step) % len(WORDS)] for i in range(num)]


def lines_of_text(num):
    return [" ".join(words(3 * i, 1 + i % 3, 4 + i % 9)) + "." for i in range(num)]


def labelled(num):
    """A label with the half of the cycle that the text begins in, a number, and a second text."""
    rows = ["label\tscore\ttext\tplace"]
    for i in range(num):
        at = 5 * i % len(WORDS)
        name = ("early", "middle", "late")[3 * at // len(WORDS)]
        rows.append(f"{name}\t{at / 10}\t{' '.join(words(at, 1, 2 + i % 5))}\t{WORDS[(at + i) % len(WORDS)]}")
    return rows


def tagged(num):
    """Sentences in CoNLL's format: upper case is a name, digits are a date."""
    rows = []
    for i in range(num):
        for word in words(2 * i, 1 + i % 4, 3 + i % 6):
            rows.append(f"{word} {'B-NAME' if word[0].isupper() else 'B-DATE' if word.isdigit() else 'O'}")
        rows.append("")
    return rows


def questions(num):
    rows = []
    for i in range(num):
        context = words(4 * i, 1, 5 + i % 5)
        answer = context[1 + i % 3]
        start = len(" ".join(context[: 1 + i % 3])) + 1
        row = {"question": f"after {context[i % 3]}", "context": " ".join(context)}
        rows.append(json.dumps({**row, "answers": [answer], "answer_start": [start]}))
    return rows


def lists_of_answers(num):
    rows = []
    for i in range(num):
        after = words(i, 1, 3)
        rows.append(json.dumps({"question": f"what follows {WORDS[i % len(WORDS)]}", "answers": [after[1], after[2]]}))
    return rows


FILES = {
    "text": (lines_of_text, "txt", ["--documents", "line"]),
    "labels": (labelled, "tsv", ["--label", "label", "--number", "score", "--text", "text", "place"]),
    "tags": (tagged, "conll", []),
    "questions": (questions, "jsonl", []),
    "lists": (lists_of_answers, "jsonl", ["--text", "question", "--list", "answers"]),
}
WRITER = ["--model", "bart_tiny", "--optim.lr", "1e-2", "--train.steps", "40"]  # to write more than nothing
RUNS = {
    "masked_lm": ("text", ["--task", "masked_lm"]),
    "denoising": ("text", ["--task", "denoising", *WRITER]),
    "classification": ("labels", ["--task", "classification"]),
    "regression": ("labels", ["--task", "regression", "--task.label", "score", "--task.pair", "place"]),
    "tagging": ("tags", ["--task", "tagging"]),
    "span": ("questions", ["--task", "span", "--task.max_question", "8", "--task.max_answer", "4"]),
    "seq2seq": ("lists", ["--task", "seq2seq", *WRITER]),
    "joint_mlm": ("labels", ["--task", "joint_mlm", "--task.label", "label"]),
}
TEXTS = {
    "masked_lm": ["amber <mask> candle dapper", "Kettle <mask> amber <mask>"],
    "denoising": ["amber <mask> candle"],
    "classification": ["amber basin", "island jacket Kettle"],
    "regression": ["amber basin\tcandle", "jacket\tharbor"],
    "tagging": ["amber Eagle 1984", "Kettle ladder"],
    "span": ["after amber\tharbor amber basin candle", "after 1984\tgarden harbor 1984 island"],
    "seq2seq": ["what follows amber", "what follows Kettle"],
    "joint_mlm": ["amber <mask> candle dapper"],
}
SENTENCES = ("about", "checkpoint", "interval_rule")  # for people: they may be worded anew
POLICIES = (
    "uniform",
    "uniform ratio=0.4 ratio_end=0.1",
    "whole_word",
    "span",
    "span lengths=poisson mean=2 unit=token ratio=0.3",
    "fully_explored",
    "fully_explored masks=3 of=whole_word",
    "infilling ratio=0.3",
    "t5_span ratio=0.3",
    "mix",
    "mix of=uniform,whole_word weights=3,1",
    "scored column=salient",
    "scored column=salient choose=sample ratio=0.1",
    "listed column=salient",
    "listed column=salient choose=all",
    "listed column=salient choose=one fallback=uniform",
    "whole_unit column=salient ratio=0.3",
)


def command(*arguments):
    """Runs a command line: its exit code, its standard output and its standard error."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = front.run(front.main, [str(word) for word in arguments])
    return code, out.getvalue(), err.getvalue()


def answer(*arguments):
    """The standard output of a command that has to succeed."""
    code, out, err = command(*arguments)
    assert code == 0, err
    return out


class Made:
    """A folder of datasets and runs, each made when it is first asked for."""

    def __init__(self, folder):
        self.folder = folder

    def data(self, name):
        out = self.folder / name
        if not out.exists():
            make, kind, options = FILES[name]
            files = []
            for split, num in (("train", 60), ("valid", 20), ("test", 20)):
                file = self.folder / f"{name}-{split}.{kind}"
                file.write_text("\n".join(make(num)) + "\n", encoding="utf-8")
                files += [f"--{split}", file]
            vocab = ["--vocab-size", 310, "--vocab-kind", "bpe"] if name == "text" else ["--vocab", self.data("text")]
            answer("preprocess", *files, "--out", out, "--workers", 0, *vocab, *options)
            if name == "text":
                answer("spans", "--data", out, "--column", "salient", "--heuristic")
        return out

    def run(self, name):
        out = self.folder / "runs" / name
        if not out.exists():
            data, options = RUNS[name]
            model = [] if "--model" in options else ["--model", "tiny"]
            answer("train", "--data", self.data(data), "--run", out, *model, *SMALL, *SHORT, *options)
        return out


@pytest.fixture(scope="session")
def made(tmp_path_factory):
    return Made(tmp_path_factory.mktemp("nothing_moved"))


@pytest.fixture
def hold(request):
    """hold(file, key, found) holds what was found against a file of `fixtures/`, or renews it."""

    def compare(name, key, found):
        file = FIXTURES / f"{name}.json"
        found = json.loads(json.dumps(found))
        if request.config.getoption("--renew"):
            kept = json.loads(file.read_text()) if file.exists() else {}
            lines = [f"{json.dumps(name)}: {json.dumps(value)}" for name, value in sorted({**kept, key: found}.items())]
            file.write_text("{\n" + ",\n".join(lines) + "\n}\n")  # a line for each result, so that a diff names it
        differences = list(differing(json.loads(file.read_text())[key], found, key))
        assert not differences, "\n".join(differences[:20])

    return compare


def differing(kept, found, where):
    """Yields a line for each value that is not what it was."""
    if isinstance(kept, dict) and isinstance(found, dict):
        for name in sorted({*kept, *found}):
            if name in kept and name in found:
                yield from differing(kept[name], found[name], f"{where}.{name}")
            else:
                yield f"{where}.{name} is {'new' if name in found else 'missing'}"
    elif isinstance(kept, list) and isinstance(found, list) and len(kept) == len(found):
        for number, (a, b) in enumerate(zip(kept, found, strict=True)):
            yield from differing(a, b, f"{where}[{number}]")
    elif isinstance(kept, float) and isinstance(found, int | float):
        if not math.isclose(kept, found, rel_tol=TOLERANCE, abs_tol=1e-6):
            yield f"{where} was {kept!r}, is {found!r}"
    elif kept != found:
        yield f"{where} was {kept!r}, is {found!r}"


def digests(folder):
    """The SHA-256 of each file of a folder."""
    return {
        str(file.relative_to(folder)): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in sorted(folder.rglob("*"))
        if file.is_file()
    }


@pytest.mark.parametrize("name", FILES)
def test_datasets_are_the_same_bytes(name, made, hold):
    hold("datasets", name, digests(made.data(name)))


def test_masks_are_the_same(made, hold):
    """Of two rows the mask of the first epoch, and how often 200 epochs mask each token."""
    options = ["--seed", 3, "--rows", 2, "--sample", 4, "--draws", 1, "--json"]
    maskers = [word for policy in POLICIES for word in ("--masker", policy)]
    found = {policy: [] for policy in POLICIES}
    for row in json.loads(answer("inspect", "--data", made.data("text"), *maskers, *options))["rows"]:
        mask = "".join(".#"[place in row["masked"]] for place in range(len(row["pieces"])))
        numbers = hashlib.sha256(json.dumps(row.get("rate", row.get("score"))).encode()).hexdigest()[:16]
        found[row["policy"].partition(", ")[0]].append([row["row"], mask, numbers])
    for policy, rows in found.items():
        hold("masks", policy, rows)


def test_masks_of_every_masker_are_held():
    listed = [line.split()[0] for line in answer("list", "masker").splitlines() if line[:3].strip() and line[0] == " "]
    assert listed and {policy.split()[0] for policy in POLICIES} == {*listed}


@pytest.mark.parametrize("name", RUNS)
def test_predictions_are_the_same(name, made, hold):
    lines = answer("predict", "--from", made.run(name), "--json", "--device", "cpu", *TEXTS[name]).splitlines()
    hold("predictions", name, [json.loads(line) for line in lines])


@pytest.mark.parametrize("name", RUNS)
def test_metrics_and_their_intervals_are_the_same(name, made, hold):
    found = json.loads(answer("evaluate", "--from", made.run(name), "--split", "test", "--json"))
    hold("evaluate", name, numbers_of(found))


def numbers_of(found):
    """A report without its sentences, and without the names of its files."""
    if isinstance(found, dict):
        return {key: numbers_of(value) for key, value in found.items() if key not in SENTENCES}
    return [numbers_of(value) for value in found] if isinstance(found, list) else found


def test_the_inspection_of_a_run_is_the_same(made, hold):
    maskers = ["--masker", "uniform", "--masker", "span p=0.3", "--masker", "fully_explored masks=2"]
    options = ["--rows", 2, "--sample", 12, "--draws", 5, "--split", "valid", "--json"]
    found = json.loads(answer("inspect", "--from", made.run("masked_lm"), *maskers, *options))
    hold("inspect", "run", numbers_of(found))


def test_the_variances_are_the_same(made, hold):
    maskers = ["--masker", "uniform", "--masker", "whole_word", "--masker", "fully_explored masks=2"]
    options = ["--rows", 8, "--draws", 3, "--split", "valid", "--json"]
    found = json.loads(answer("variance", "--from", made.run("masked_lm"), *maskers, *options))
    hold("variance", "run", numbers_of(found))


def test_annotations_are_the_same(made, hold, tmp_path):
    data, file = shutil.copytree(made.data("text"), tmp_path / "copy"), tmp_path / "kept.tsv"
    options = ["--column", "guess=label", "--split", "train", "--to-tsv", file]
    answer("annotate", "--data", data, "--from", made.run("classification"), *options)
    hold("annotate", "label", file.read_text(encoding="utf-8").splitlines())


def kinds_of(error):
    """A class of errors and all that are derived from it, as far as they have been loaded."""
    yield error
    for kind in error.__subclasses__():
        yield from kinds_of(kind)


def test_every_class_of_error_has_its_exit_code(hold):
    kinds = [kind for kind in kinds_of(TaskmaskError) if kind.__module__ == TaskmaskError.__module__]
    hold("exit_codes", "classes", {kind.__name__: kind.exit_code for kind in kinds})


def mistakes(made, folder):
    """Command lines that end with an error."""
    data, run = made.data("text"), made.run("masked_lm")
    empty, noise, wrong = folder / "empty.txt", folder / "noise.txt", folder / "wrong.py"
    empty.write_text("")
    noise.write_bytes(b"amber\n\xff\xfe\n")
    wrong.write_text("import nothing_that_there_is\n")
    damaged, cut = shutil.copytree(run, folder / "damaged"), shutil.copytree(data, folder / "cut")
    for file in (damaged / "checkpoints").glob("*.pt"):
        file.write_bytes(file.read_bytes()[:-1000])
    (cut / "train" / "tokens.bin").write_bytes(b"")
    out, new = folder / "out", ["--run", folder / "run", "--model", "tiny", *SMALL, *SHORT]
    train = ["train", "--data", data, *new]
    return {
        "an unknown verb": ["trian"],
        "an unknown option": [*train, "--train.stepz", 3],
        "a value of another type": [*train, "--train.steps", "many"],
        "a value out of range": [*train, "--train.steps", 0],
        "an unknown masker": [*train, "--masker", "unifrom"],
        "an option that the masker has not": [*train, "--masker.p", 0.3],
        "settings that contradict each other": [*train, "--train.patience", 2, "--train.valid_every", 0],
        "a missing file of settings": [*train, "--config", folder / "nowhere.toml"],
        "a missing plug-in": [*train, "--user-dir", folder / "nowhere.py"],
        "a plug-in that fails": [*train, "--user-dir", wrong],
        "no dataset": ["train", *new],
        "a missing dataset": ["train", "--data", folder / "nowhere", *new],
        "a dataset that was cut": ["train", "--data", cut, *new],
        "a missing column": [*train, "--masker", "scored", "--masker.column", "nowhere"],
        "a task without its column": [*train, "--task", "classification"],
        "a rate that diverges": [*train, "--optim.lr", 1e30, "--optim.clip", 0, "--train.max_bad_steps", 2],
        "a stop by the clock": [*train, "--run.stop_after_minutes", 1e-6],
        "a run in a file": [*train, "--run", empty / "run"],
        "other settings at a resume": ["train", "--data", data, *new, "--run", run, "--optim.lr", 1],
        "a missing text file": ["preprocess", "--train", folder / "nowhere.txt", "--out", out],
        "an empty text file": ["preprocess", "--train", empty, "--out", out, "--workers", 0],
        "a text that is not UTF-8": ["preprocess", "--train", noise, "--out", out, "--workers", 0],
        "an output that exists": ["preprocess", "--train", noise, "--out", data],
        "a run that is missing": ["evaluate", "--from", folder / "nowhere"],
        "a checkpoint that is damaged": ["evaluate", "--from", damaged],
        "a split that is missing": ["evaluate", "--from", run, "--split", "nowhere"],
        "a text without a mask": ["predict", "--from", run, "amber"],
        "a policy twice": ["inspect", "--data", data, "--masker", "uniform", "--masker", "uniform"],
        "a run that masks nothing": ["variance", "--from", made.run("tagging")],
        "an experiment that is missing": ["compare", folder / "nowhere.toml"],
        "a task that annotates nothing": ["annotate", "--data", data, "--from", run, "--column", "a=label"],
        "nothing to convert": ["convert", "--run", run],
        "an unknown component": ["list", "masker", "unifrom"],
    }


def test_typical_mistakes_end_with_their_exit_codes(made, hold, tmp_path):
    codes = {}
    for name, words_of_it in mistakes(made, tmp_path).items():
        codes[name], _, err = command(*words_of_it)
        last = err.strip().splitlines()[-1:]
        assert "Traceback" not in err and last and last[0].startswith(("taskmask: ", "  ")), f"{name}: {err}"
    hold("exit_codes", "mistakes", codes)


EXPERIMENT = {
    "seeds": [1],
    "points": 1,
    "run": {"tensorboard": False, "threads": 1},
    "pretrain": {
        "data": {"length": 40},
        "model": {"name": "tiny", LAYERS[8:]: 1, WIDTH[8:]: 32, HEADS[8:]: 2},
        "train": {"steps": 2, "max_tokens": 512},
        "optim": {"warmup_steps": 0},
    },
    "intermediate": {"train": {"steps": 2, "max_tokens": 512}, "optim": {"warmup_steps": 0}},
    "policies": {"uniform": {"masker": "uniform"}, "words": {"masker": "whole_word"}},
    "tasks": {"thirds": {"task": "classification", "train": {"steps": 3, "max_tokens": 512}}},
}


def test_the_report_of_a_comparison_is_the_same(made, hold, tmp_path):
    pretrain = {**EXPERIMENT["pretrain"], "data": {"length": 40, "path": str(made.data("labels"))}}
    file = tmp_path / "tiny.json"
    file.write_text(json.dumps({**EXPERIMENT, "pretrain": pretrain}))
    answer("compare", file, "--run", tmp_path / "out")
    with (tmp_path / "out" / "report.csv").open(newline="", encoding="utf-8") as report:
        found = [[number(cell) for cell in row] for row in csv.reader(report) if "seconds" not in row]
    hold("compare", "report.csv", found)


def number(cell):
    """A cell of a table: an integer, another number, or a text."""
    for kind in (int, float):
        with contextlib.suppress(ValueError):
            return kind(cell)
    return cell
