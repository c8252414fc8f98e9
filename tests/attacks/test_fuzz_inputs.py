"""Inputs changed at random: each is refused in one line with its place, or read as a slow reader reads it."""

import collections
import dataclasses
import gzip
import io
import itertools
import os
import random
import re
import shutil
import zlib
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from functools import partial
from pathlib import Path

import fuzz_help as fuzz
import numpy as np
import pytest
import slow_readers as slow

from taskmask.data.dataset import Dataset
from taskmask.tokenizer.tokenizer import Vocabulary
from taskmask_cli import main, preprocess

DOUBTFUL = {"-100", "-1", "-", "_", "?", "nan", "NaN"}  # the other labels decide whether they are labels
NUMBER = re.compile(r"(-?\d+)(\.0+)?", re.ASCII)
TEXT = "--text text second --label label --number score".split()  # noqa: SIM905
SKIP = ["--on-bad-answer", "skip"]


@dataclasses.dataclass(frozen=True)
class Format:
    """A kind of file: its name, the options it is read with, its rows, how they are written, and its slow reader."""

    file: str
    options: list[str]
    rows: list | dict
    write: Callable
    read: Callable
    change: Callable = fuzz.changed_tree
    like: str = ""  # the columns that are compared


def of_texts(file, options, write, read, rows=fuzz.TABLE, change=fuzz.changed_cells):
    return Format(file, [*TEXT, *options], rows, write, read, change, "texts")


def of_words(file, write, read, rows=fuzz.TAGGED, change=fuzz.changed_tree):
    return Format(file, [], rows, write, read, change, "words")


def of_answers(file, options, write, read, rows):
    return Format(file, options, rows, write, read, like="answers")


def quoted(mark):
    return {"write": partial(fuzz.quoted, mark=mark), "read": partial(slow.read_quoted, mark=mark)}


FORMATS = {
    "jsonl": of_texts("a.jsonl", ["--list", "names"], fuzz.jsonl, slow.read_jsonl, fuzz.TEXTED, fuzz.changed_tree),
    "tsv": of_texts("a.tsv", [], fuzz.tsv, slow.read_tsv),
    "tsv, quoted": of_texts("a.tsv", ["--quoted"], **quoted("\t")),
    "csv": of_texts("a.csv", [], **quoted(",")),
    "csv, semicolons": of_texts("a.csv", ["--delimiter", ";"], **quoted(";")),
    "tags": of_words("a.jsonl", fuzz.jsonl, slow.read_tags),
    "conll": of_words("a.conll", fuzz.tsv, slow.read_conll, fuzz.CONLL, fuzz.changed_cells),
    "conllu": of_words("a.conllu", fuzz.tsv, slow.read_nothing, fuzz.CONLLU, fuzz.changed_cells),
    "qa": of_answers("a.jsonl", ["--answers"], fuzz.jsonl, slow.read_qa, fuzz.ASKED),
    "qa, skip": of_answers("a.jsonl", ["--answers", *SKIP], fuzz.jsonl, partial(slow.read_qa, skip=True), fuzz.ASKED),
    "squad": of_answers("a.json", [], fuzz.dumped, slow.read_squad, fuzz.SQUAD),
    "squad, skip": of_answers("a.json", SKIP, fuzz.dumped, partial(slow.read_squad, skip=True), fuzz.SQUAD),
    "txt": Format("a.txt", ["--documents", "line"], fuzz.TEXTS, fuzz.txt, slow.read_txt, like="lines"),
    "txt, blank": Format(
        "a.txt", ["--documents", "blank"], fuzz.TEXTS, fuzz.txt, partial(slow.read_txt, blank=True), like="lines"
    ),
}


@pytest.fixture(scope="module")
def vocabulary(tmp_path_factory):
    """A vocabulary in the current folder, in which nothing is synced to the disk."""
    folder = tmp_path_factory.mktemp("fuzz")
    (folder / "v.txt").write_text("\n".join([*fuzz.TEXTS, " ".join(fuzz.WORDS)] * 9), encoding="utf-8")
    options = ["--documents", "line", "--vocab-size", "320", "--workers", "0"]
    assert preprocess.main(["--train", str(folder / "v.txt"), "--out", str(folder / "v"), *options]) == 0
    (folder / "v.txt").unlink()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda file: None)
        patch.chdir(folder)
        yield Vocabulary.load("v")


def spoiled(random, format):
    """(the name of a file, its changed content, further options, the content as a reader is to see it)."""
    rng, file, options = random.random(), format.file, []
    if rng < 0.5:
        content = format.write(format.change(random, format.rows), random=random)
    else:
        content = format.write(format.rows)
        content = (fuzz.changed_bytes if rng < 0.9 else fuzz.changed_file)(random, content)
    if random.random() < 0.1:
        file, content = f"{file}.gz", fuzz.zipped(random, content)
    try:
        plain = gzip.decompress(content) if file.endswith(".gz") else content
    except (EOFError, zlib.error, gzip.BadGzipFile):
        plain = None
    if plain is not None and random.random() < 0.2:
        options = ["--on-bad-utf8", "replace"]
        lines = plain.removeprefix(b"\xef\xbb\xbf").split(b"\n")
        plain = b"\n".join(line.decode(errors="replace").encode() for line in lines)
    return file, content, options, plain


def run(arguments):
    """(exit code, standard error) of taskmask-preprocess."""
    with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()) as error:
        code = main.run(preprocess.main, ["--vocab", "v", "--workers", "0", "--out", "out", *arguments])
    return code, error.getvalue()


def expected(format, plain):
    """What a slow reader finds, "refused", or None if it cannot say."""
    if plain is None:
        return "refused"
    try:
        return format.read(plain)
    except slow.Unreadable:
        return "refused"
    except slow.Unjudged:
        return None


def rows_of(split, name):
    return [split.values(name)[start:stop] for start, stop in itertools.pairwise(split.offsets(name))]


def is_label(found, wanted):
    """Whether a name of a label, "" for none, is the one that stands in the file."""
    wanted = wanted.strip()
    if found == wanted or (found == "" and wanted in DOUBTFUL):
        return True
    number = NUMBER.fullmatch(wanted)
    return bool(number) and number[1] == found


def labels_of(dataset, split, name):
    names = [*dataset.labels[name], ""]
    return [names[id] for id in split.values(name)]


def check_tokens(vocabulary, split, name, texts, ends=True):
    """The rows of a column are these texts, each with </s> where `ends` says so."""
    found = [row.tolist() for row in rows_of(split, name)]
    ends = [ends] * len(texts) if ends is True else ends
    wanted = [[*ids.tolist(), *[vocabulary.eos] * end] for ids, end in zip(vocabulary.encode(texts), ends, strict=True)]
    assert found == wanted, name


def check_texts(vocabulary, dataset, split, wanted):
    check_tokens(vocabulary, split, "tokens", wanted["text"])
    check_tokens(vocabulary, split, "second", wanted["second"])
    assert all(map(is_label, labels_of(dataset, split, "label"), wanted["label"]))
    for found, number in zip(split.values("score"), wanted["score"], strict=True):
        assert np.isnan(found) if number is None else found == np.float32(number) or (np.isnan(found) and number == -1)
    for found, texts in zip(rows_of(split, "names"), wanted["names"], strict=True) if "names" in wanted else ():
        assert bytes(found).decode() == "\n".join(texts)


def check_words(vocabulary, dataset, split, wanted):
    tokens, words, tags = (rows_of(split, name) for name in ("tokens", "word", "tags"))
    names = [*dataset.labels["tags"], ""]
    encoded = vocabulary.encode_words(wanted["sentences"])
    for at, (ids, numbers) in enumerate(encoded):
        assert tokens[at].tolist() == [*ids.tolist(), vocabulary.eos] and words[at].tolist() == [*numbers.tolist(), -1]
        assert all(is_label(names[tag], wanted["tags"][at][word]) for tag, word in zip(tags[at], numbers, strict=False))
    assert len(tokens) == len(encoded)


def check_answers(vocabulary, dataset, split, wanted):
    check_tokens(vocabulary, split, "tokens", wanted["context"])
    check_tokens(vocabulary, split, "question", wanted["question"])
    starts, ends, texts, answers = (rows_of(split, name) for name in ("starts", "ends", "text", "answers"))
    spans = split.values("answer").reshape(-1, 2)
    for at, (context, right) in enumerate(zip(wanted["context"], wanted["answers"], strict=True)):
        found = bytes(answers[at]).decode().split("\n")
        assert bytes(texts[at]).decode() == context and all(answer in context for answer in found)
        text, start = right[0]
        if start is not None:
            assert found == [text for text, _ in right]
            first, last = spans[at]
            if last < len(starts[at]) - 1:  # else the vocabulary has dropped it
                assert starts[at][first] <= start and ends[at][last] >= start + len(text)


def check_lines(vocabulary, dataset, split, wanted):
    documents = wanted["document"]
    ends = [after != before for before, after in itertools.pairwise([*documents, -1])]
    check_tokens(vocabulary, split, "tokens", wanted["text"], ends)
    if "document" in split.columns:
        assert split.values("document").tolist() == documents


CHECKS = {"texts": check_texts, "words": check_words, "answers": check_answers, "lines": check_lines}


def check_refusal(file, code, error, before):
    """One line that names the file and, but for whole files, the place in it; nothing is left."""
    assert code in (2, 3) and error.startswith("taskmask: error: ") and error.count("\n") == 1 and len(error) < 4200
    whole = r"gz|is empty|no text|has no rows|there is no word|no SQuAD|no list 'data'|twice|nested|digits|-utf8"
    assert re.search(rf"{re.escape(file)}(:\d+|, article)|line \d+ column|{whole}", error) and file in error, error
    assert set(os.listdir()) == before


def fuzzed(vocabulary, name, seeds):
    """Tries changed inputs of a format; how many were accepted, and how many refused."""
    format, ends = FORMATS[name], collections.Counter()
    for seed in seeds:
        file, content, options, plain = spoiled(random.Random(f"{name} {seed}"), format)
        Path(file).write_bytes(content)
        wanted, before = expected(format, plain), set(os.listdir())
        try:
            code, error = run(["--train", file, *format.options, *options])
            ends[code] += 1
            if code:
                check_refusal(file, code, error, before)
                continue
            assert wanted != "refused"
            dataset = Dataset.open("out")
            dataset.verify()
            if wanted:
                CHECKS[format.like](vocabulary, dataset, dataset.split("train"), wanted)
        except BaseException as error:
            error.add_note(f"{name}, seed {seed}: {content[:2000]!r}")
            raise
        finally:
            shutil.rmtree("out", ignore_errors=True)
            Path(file).unlink()
    return ends


@pytest.mark.fault(69)
@pytest.mark.parametrize("name", FORMATS)
def test_changed_inputs_are_refused_or_read_right(name, vocabulary):
    ends = fuzzed(vocabulary, name, range(100))
    assert ends[0] > 10 and ends[3] > 10


@pytest.mark.slow
@pytest.mark.parametrize("name", FORMATS)
def test_thousands_of_changed_inputs(name, vocabulary):
    fuzzed(vocabulary, name, range(100, 2200))
