"""What goes wrong in taskmask-preprocess: its exit code, its one line, and what lies in the folder afterwards."""

import gzip
import io
import itertools
import json
import os
import random
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import sentencepiece
from preprocess_help import content, kill_after, start

from taskmask.data.dataset import Dataset
from taskmask.preprocess import pipeline, readers
from taskmask.system import failpoints
from taskmask.tokenizer.tokenizer import Vocabulary
from taskmask_cli import main, preprocess, train

LINES = [
    "the quick brown fox jumps over the lazy dog",
    "hello, wörld: the dogs were jumping",
    "我爱北京 the line number",
]


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """A dataset whose vocabulary is taken by the others."""
    folder = tmp_path_factory.mktemp("base")
    (folder / "train.txt").write_text("\n".join(LINES * 20))
    arguments = ["--train", str(folder / "train.txt"), "--out", str(folder / "base"), "--vocab-size", "300"]
    assert main.run(preprocess.main, arguments) == 0
    return folder / "base"


@pytest.fixture
def end(tmp_path, monkeypatch, capsys, base):
    """end("--train", "a.txt") -> exit code, and the line on stderr; --out is "out" and the folder the current one."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(failpoints, "_times", failpoints.collections.Counter())

    def end(*arguments, vocab=("--vocab", str(base))):
        capsys.readouterr()
        code = main.run(preprocess.main, ["--out", "out", "--workers", "0", *vocab, *arguments])
        end.output, error = capsys.readouterr()
        assert error.count("\n") == (code != 0) and "Traceback" not in error
        return code, error

    return end


def names(folder="."):
    return sorted(path.name for path in Path(folder).iterdir())


def rows(split="train"):
    """The rows as texts."""
    dataset = Dataset.open("out")
    part, vocabulary = dataset.split(split), dataset.vocabulary()
    offsets = part.offsets("tokens")
    return [vocabulary.decode(part.values("tokens")[a:b]) for a, b in itertools.pairwise(offsets)]


@pytest.mark.fault(1)
def test_all_inputs_that_cannot_be_read_are_named_before_any_work(end, monkeypatch):
    Path("good.txt").write_text("the dog\n")
    Path("folder.txt").mkdir()
    Path("secret.txt").write_text("x")

    def guarded(path, *arguments):
        if str(path) == "secret.txt":  # to root no file is unreadable
            raise PermissionError(13, "Permission denied", path)
        return open(path, *arguments)

    monkeypatch.setattr(readers, "open", guarded, raising=False)
    monkeypatch.setattr(pipeline, "parse", None)
    code, error = end("--train", "good.txt", "missing.txt", "--valid", "folder.txt", "--test", "secret.txt")
    assert code == 3
    assert "missing.txt: no such file" in error and "folder.txt is a folder" in error
    assert "secret.txt: permission denied" in error and "good.txt" not in error
    assert names() == ["folder.txt", "good.txt", "secret.txt"]


@pytest.mark.fault(2)
@pytest.mark.parametrize("name, text", [
    ("a.txt", b""), ("a.txt", b"\n \n\r\n\x00\n"), ("a.txt", b"\xef\xbb\xbf\n"),
    ("a.txt.gz", gzip.compress(b"", mtime=0)),
    ("a.txt.gz", gzip.compress(b"\n\n", mtime=0)), ("a.tsv", b"text\n\n\n"), ("a.jsonl", b"\n"),
])  # fmt: skip
def test_no_text_no_dataset(end, name, text):
    Path(name).write_bytes(text)
    Path("good.txt").write_text("the dog\n")
    for arguments in (["--train", name], ["--train", "good.txt", "--valid", name]):
        code, error = end(*arguments)
        assert code == 3 and name in error and ("empty" in error or "no text" in error or "no rows" in error)
        assert names() == sorted([name, "good.txt"])


@pytest.mark.fault(3)
def test_bad_utf8_stops_with_its_place(end):
    Path("a.txt").write_bytes(b"the dog\nthe \xe9t\xe9\n")
    code, error = end("--train", "a.txt")
    assert code == 3 and "a.txt:2:5: byte 0xe9 is not UTF-8" in error and "--on-bad-utf8" in error
    assert names() == ["a.txt"]


@pytest.mark.fault(3, 12)
@pytest.mark.parametrize("chunk", [1, 9, 1 << 20])
@pytest.mark.parametrize("workers", ["0", "2"])
def test_bad_utf8_is_mended_or_left_out_and_counted(end, monkeypatch, chunk, workers):
    monkeypatch.setattr(readers, "CHUNK", chunk)
    monkeypatch.setattr(pipeline, "CHUNK", chunk)
    Path("a.txt").write_bytes(b"dog\nthe \xe9t\xe9\n\nfox\n\xff\n\n\xe6\x88\n\nthe\xed\xa0\x80")
    Path("b.tsv").write_bytes(b"text\tlabel\na\xffb\tx\nc\ty\n\xc0\xaf\tz\n")
    Path("c.jsonl").write_bytes(b'{"text": "\xff"}\n\n{"text": "dog"}\n')
    for file, replaced, skipped, number, first in (
        ("a.txt", ["dog", "the �t�", "fox", "�", "�", "the���"], ["dog", "fox"], 4, "a.txt:2:5"),
        ("b.tsv", ["a�b", "c", "��"], ["c"], 2, "b.tsv:2:2"),
        ("c.jsonl", ["�", "dog"], ["dog"], 1, "c.jsonl:1:11"),
    ):
        for action, expected, done in (("replace", replaced, "mended with U+FFFD"), ("skip", skipped, "left out")):
            code, _ = end("--train", file, "--on-bad-utf8", action, "--overwrite", "--workers", workers)
            assert code == 0 and rows() == expected
            assert f"lines that are not UTF-8, {done}: {number}, the first at {first}\n" in end.output
            if file == "a.txt":
                documents = {"replace": [0, 0, 1, 1, 2, 3], "skip": [0, 1]}[action]
                assert Dataset.open("out").split("train").values("document").tolist() == documents
    assert end("--train", "c.jsonl", "--on-bad-utf8", "skip", "--input-format", "txt", "--overwrite")[0] == 0
    assert end("--train", "a.txt", "--valid", "c.jsonl", "--on-bad-utf8", "skip", "--overwrite")[0] == 0
    assert "left out: 5, the first at a.txt:2:5" in end.output
    Path("d.tsv").write_bytes(b"text\xff\na\nx\ty\n")
    code, error = end("--train", "d.tsv", "--on-bad-utf8", "skip", "--overwrite")
    assert code == 3 and "d.tsv:1:5" in error
    Path("e.tsv").write_bytes(b"text\n\xff\nx\ty\n")
    code, error = end("--train", "e.tsv", "--on-bad-utf8", "skip", "--overwrite")
    assert code == 3 and "e.tsv:3: the line has 2 columns" in error


@pytest.mark.fault(4)
def test_strange_characters_have_a_defined_result(end):
    Path("a.txt").write_bytes("\ufeffa\x00b\r\nfox\u2028dog\rcat\n\ufeffc\u0085d\n".encode())
    assert end("--train", "a.txt", "--documents", "line")[0] == 0
    assert rows() == ["a b", "fox\u2028dog cat", "\ufeffc\u0085d"]
    Path("b.jsonl").write_text('{"text": "half of \\ud83d a pair"}\n')
    code, error = end("--train", "b.jsonl", "--overwrite")
    assert code == 3 and "b.jsonl:1: 'text' holds half a surrogate pair" in error
    assert rows()[0] == "a b" and names() == ["a.txt", "b.jsonl", "out"]


@pytest.mark.fault(5)
def test_a_very_long_line_is_encoded_whole_in_bounded_memory(tmp_path, base):
    """Measured at 100 MB: six to eight times the length of the line, in the process that encodes it."""
    code = (
        "import resource, sys\n"
        "from taskmask_cli import main, preprocess\n"
        "peaks = []\n"
        "for name in ('short.txt', 'long.txt'):\n"
        "    assert main.run(preprocess.main, ['--train', name, '--out', name + '.out', *sys.argv[1:]]) == 0\n"
        "    peaks.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)\n"
        "print('peak', peaks[1] - peaks[0])"
    )
    (tmp_path / "short.txt").write_text("the quick brown fox\n")
    (tmp_path / "long.txt").write_text("the quick brown fox " * 1_000_000 + "\n")
    arguments = [sys.executable, "-c", code, "--vocab", str(base), "--workers", "0"]
    environment = {**os.environ, "PYTHONPATH": str(Path(main.__file__).parents[1])}
    out = subprocess.run(arguments, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True)
    assert int(out.stdout.split()[-1]) < 10 * 20, out.stdout
    short, long = (
        Dataset.open(tmp_path / f"{name}.txt.out").split("train").values("tokens") for name in ("short", "long")
    )
    assert np.array_equal(long[:-1].reshape(1_000_000, -1), np.tile(short[:-1], (1_000_000, 1)))


@pytest.mark.fault(6)
@pytest.mark.parametrize("damage", ["missing", "empty", "cut", "noise", "a folder", "a pipe"])
def test_a_vocabulary_that_is_none(end, base, damage):
    model = (base / "vocab.model").read_bytes()
    texts = {"empty": b"", "cut": model[: len(model) // 2], "noise": random.Random(0).randbytes(3000)}
    if damage in texts:
        Path("v.model").write_bytes(texts[damage])
    elif damage != "missing":
        (os.mkfifo if damage == "a pipe" else os.mkdir)("v.model")
    Path("a.txt").write_text("the dog\n")
    code, error = end("--train", "a.txt", vocab=("--vocab", "v.model"))
    assert code == 3 and "v.model" in error
    assert "SentencePiece" in error and ("No such file" in error) == (damage in ("missing", "a folder"))
    assert names() == sorted({"a.txt", "v.model"} - ({"v.model"} if damage == "missing" else set()))


def model_of(words, **options):
    """A SentencePiece model made elsewhere: without our special pieces, and of one piece a word."""
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(words), model_writer=model, minloglevel=2, hard_vocab_limit=False, **options
    )
    return model.getvalue()


@pytest.mark.fault(7)
def test_a_vocabulary_without_our_special_pieces_gets_them(end):
    words = ["the quick brown fox jumps over the lazy dog"]
    Path("v.model").write_bytes(model_of(words, vocab_size=40, bos_id=-1, eos_id=-1))
    Path("a.txt").write_text("the dog\n")
    assert end("--train", "a.txt", vocab=("--vocab", "v.model"))[0] == 0
    vocabulary = Dataset.open("out").vocabulary()
    assert vocabulary.pieces([vocabulary.pad, vocabulary.eos, vocabulary.mask]) == ["<pad>", "</s>", "<mask>"]
    assert rows() == ["the dog"] and Dataset.open("out").split("train").values("tokens")[-1] == vocabulary.eos


@pytest.mark.fault(7)
def test_a_vocabulary_too_large_for_its_integers_gets_wider_ones(end):
    words = [str(number) for number in range(100_000, 166_000)]
    Path("v.model").write_bytes(model_of(words, model_type="word", vocab_size=66_100, character_coverage=1.0))
    Path("a.txt").write_text("\n".join(words))
    assert end("--train", "a.txt", vocab=("--vocab", "v.model"))[0] == 0
    tokens = Dataset.open("out").split("train").values("tokens")
    assert tokens.dtype == np.uint32 and tokens.max() > 1 << 16
    assert rows() == words


@pytest.mark.fault(8)
def test_an_output_that_exists_is_refused_or_replaced_at_the_end(end, monkeypatch):
    Path("a.txt").write_text("the dog\n")
    Path("b.txt").write_text("fox\n" * 50)
    assert end("--train", "a.txt")[0] == 0
    old = content(Path("out"))
    code, error = end("--train", "b.txt")
    assert code == 3 and "out: the dataset exists; give --overwrite" in error
    for fault, expected in (("full@data.write#2", 7), ("full@data.rename", 7)):  # while it is made, and at the end
        monkeypatch.setattr(failpoints, "_times", failpoints.collections.Counter())
        monkeypatch.setenv("TASKMASK_FAULT", fault)
        assert end("--train", "b.txt", "--overwrite")[0] == expected
        assert content(Path("out")) == old and names() == ["a.txt", "b.txt", "out"]
    monkeypatch.delenv("TASKMASK_FAULT")
    assert end("--train", "b.txt", "--overwrite")[0] == 0
    assert rows() == ["fox"] * 50 and names() == ["a.txt", "b.txt", "out"]
    for other in ("a.txt", "folder"):
        Path("folder").mkdir(exist_ok=True)
        Path("folder/precious").touch()
        code, error = end("--train", "a.txt", "--overwrite", "--out", other)
        assert code == 3 and "exists and is not a" in error
        assert Path("a.txt").is_file() and names("folder") == ["precious"]


@pytest.mark.fault(10)
@pytest.mark.parametrize("point", ["data.write", "data.write#5", "data.rename", "file.fsync", "file.rename#2"])
def test_a_full_disk_ends_with_7_and_leaves_nothing(end, monkeypatch, point):
    Path("a.tsv").write_text("text\tlabel\n" + "the dog\tx\n" * 50)
    monkeypatch.setenv("TASKMASK_FAULT", f"full@{point}")
    code, error = end("--train", "a.tsv")
    assert code == 7 and "No space left on device" in error and "out" in error
    assert "run the same command again" in error and names() == ["a.tsv"]


@pytest.mark.fault(11)
def test_a_worker_that_dies_is_an_error_and_no_short_dataset(end, monkeypatch):
    monkeypatch.setattr(readers, "CHUNK", 64)
    monkeypatch.setattr(pipeline, "CHUNK", 64)
    parent, encode = os.getpid(), pipeline.encode_chunk

    def dies(chunk, vocabulary):
        if os.getpid() != parent and chunk.first_line > 400:
            os._exit(9)
        return encode(chunk, vocabulary)

    monkeypatch.setattr(pipeline, "encode_chunk", dies)
    Path("a.txt").write_text("the dog\n" * 500)
    code, error = end("--train", "a.txt", "--workers", "2")
    assert code == 3 and "a worker process was killed" in error and "--workers" in error
    assert names() == ["a.txt"]


@pytest.mark.fault(12)
@pytest.mark.parametrize("kind", ["unigram", "bpe"])
def test_any_number_of_workers_gives_the_same_bytes(end, monkeypatch, kind):
    monkeypatch.setattr(readers, "CHUNK", 500)
    monkeypatch.setattr(pipeline, "CHUNK", 500)
    Path("a.tsv").write_text("text\tlabel\n" + "".join(f"{LINES[n % 3]} {n}\tclass {n % 7}\n" for n in range(500)))
    Path("b.tsv").write_bytes(Path("a.tsv").read_bytes())
    vocab = ("--vocab-size", "320", "--vocab-kind", kind)
    results = []
    for workers in ("0", "1", "2", "5"):
        assert end("--train", "a.tsv", "--valid", "b.tsv", "--workers", workers, "--overwrite", vocab=vocab)[0] == 0
        results.append(content(Path("out")))
    assert results[0] == results[1] == results[2] == results[3] and len(results[0]) == 8


POINTS = ["data.write#1", "data.write#7", "data.rename", "file.fsync", "file.rename"]
KINDS = {
    "txt": ["--train", "a.txt", "--valid", "a.txt", "--test", "a.txt", "--workers", "0"],
    "txt, two workers": ["--train", "a.txt", "a.txt", "a.txt", "a.txt", "--workers", "2"],
    "tsv, new vocabulary": ["--train", "a.tsv", "--valid", "a.tsv", "--vocab-size", "350", "--workers", "0"],
}


@pytest.mark.fault(9)
@pytest.mark.parametrize("overwrite", [False, True], ids=["new", "overwrite"])
@pytest.mark.parametrize(
    "kind", [pytest.param(kind, marks=pytest.mark.slow if "txt" in kind else []) for kind in KINDS]
)
def test_killed_at_any_instant(tmp_path, monkeypatch, base, kind, overwrite):
    """Six times five points of the program and four random instants, each followed by the same command."""
    monkeypatch.chdir(tmp_path)
    Path("a.txt").write_text("".join(f"{LINES[n % 3]} {n}\n" for n in range(13_000)))
    Path("a.tsv").write_text("text\tlabel\n" + "".join(f"{LINES[n % 3]} {n}\tclass {n % 7}\n" for n in range(2_000)))
    Path("b.txt").write_text("the fox\n")
    vocab = [] if "new" in kind else ["--vocab", str(base)]
    arguments = [*KINDS[kind], *vocab, "--out", "out"] + ["--overwrite"] * overwrite
    begun = time.monotonic()
    whole = start(arguments)
    whole.join()
    seconds = time.monotonic() - begun
    assert whole.exitcode == 0
    os.rename("out", "new")
    assert main.run(preprocess.main, ["--train", "b.txt", "--vocab", str(base), "--out", "old"]) == 0
    new, old = content(Path("new")), content(Path("old"))
    chance = random.Random(f"{kind} {overwrite}")
    for instant in [*POINTS, *(chance.uniform(0, seconds) for _ in range(4))]:
        shutil.rmtree("out", ignore_errors=True)
        if overwrite:
            shutil.copytree("old", "out")
        if isinstance(instant, float):
            kill_after(instant, arguments)
        else:
            process = start(arguments, f"kill@{instant}")
            process.join()
            assert process.exitcode == -9, instant
        left = content(Path("out"))
        assert left in ([new, old] if overwrite else [new, {}]) or (overwrite and not Path("out").exists()), instant
        again = main.run(preprocess.main, arguments)
        assert again == (3 if left == new and not overwrite else 0), instant
        assert content(Path("out")) == new, instant
        assert names() == ["a.tsv", "a.txt", "b.txt", "new", "old", "out"], instant


@pytest.mark.fault(8, 9)
def test_killed_between_the_two_renames_the_old_dataset_comes_back(end, capsys, base):
    Path("a.txt").write_text("the dog\n")
    assert end("--train", "a.txt")[0] == 0
    old = content(Path("out"))
    process = start(["--train", "a.txt", "--out", "out", "--vocab", str(base), "--overwrite"], "kill@data.rename")
    process.join()
    assert not Path("out").exists()
    assert main.run(train.main, ["--data", "out", "--run", "run"]) == 3
    error = capsys.readouterr().err
    assert "run it again if it was killed (out.replaced-" in error and not Path("run").exists()
    code, error = end("--train", "missing.txt")  # whatever is asked for next
    assert code == 3 and "the dataset exists" in error
    assert content(Path("out")) == old and names() == ["a.txt", "out"]


@pytest.mark.fault(5)
def test_a_document_longer_than_any_row_keeps_all_its_tokens(end):
    """Blocks are cut when the dataset is opened."""
    Path("a.jsonl").write_text(json.dumps({"text": "the dog " * 5000}))
    assert end("--train", "a.jsonl")[0] == 0
    assert (
        Vocabulary.load("out").decode(Dataset.open("out").split("train").values("tokens"))
        == ("the dog " * 5000).strip()
    )


def test_a_field_that_stands_twice_in_a_record_is_refused(end):
    Path("a.jsonl").write_text('{"text": "the dog"}\n{"text": "the fox", "text": "the dog"}\n')
    code, error = end("--train", "a.jsonl")
    assert code == 3 and "a.jsonl:2: the line is not valid JSON: the key 'text' stands twice" in error


def test_names_of_strangers_make_no_line_and_no_page_of_the_message(end):
    Path("a.jsonl").write_text(json.dumps({"te\nxt": 1, "x" * 10**6: 2, **dict.fromkeys(map(str, range(10**4)))}))
    code, error = end("--train", "a.jsonl")
    assert code == 3 and len(error) < 4200 and "one of te\\nxt, xxxx" in error


@pytest.mark.fault(3)
def test_a_squad_file_that_is_no_utf8(end):
    question = {"question": "Who?", "answers": [{"text": "dog", "answer_start": 4}]}
    text = json.dumps({"data": [{"paragraphs": [{"context": "the dog\n", "qas": [question]}]}]}, indent=1)
    Path("a.json").write_bytes(text.replace("Who", "Wh\udce9").encode(errors="surrogateescape"))
    code, error = end("--train", "a.json")
    assert code == 3 and "a.json:9:23: byte 0xe9 is not UTF-8" in error and "--on-bad-utf8" in error
    code, error = end("--train", "a.json", "--on-bad-utf8", "skip")
    assert code == 2 and "would tear the file of a line that is not UTF-8" in error
    Path("b.json").write_bytes(text.encode("utf-16"))
    code, error = end("--train", "b.json")
    assert code == 3 and "b.json:1:1: byte 0xff is not UTF-8" in error
    assert end("--train", "a.json", "--on-bad-utf8", "replace")[0] == 0 and rows() == ["the dog"]
    assert "a.json:9:23" in end.output


@pytest.mark.fault(3)
def test_the_first_record_that_is_no_utf8_is_named_with_its_byte(end):
    Path("a.jsonl").write_bytes(b'\n{"text": "the \xe9"}\n')
    code, error = end("--train", "a.jsonl")
    assert code == 3 and "a.jsonl:2:15: byte 0xe9 is not UTF-8" in error
