"""Values that no option can mean: each ends in one line that names the option, before any work."""

import pytest

from taskmask_cli import main

HUGE = "99999999999999999999"


@pytest.fixture
def end(data, trained, texts, tmp_path, monkeypatch, capsys):
    """end("predict", "--top", "x") -> exit code, and the line on stderr; the verbs have what they need."""
    monkeypatch.chdir(tmp_path)
    needed = {
        "preprocess": ["--train", str(texts / "valid.txt"), "--out", "out", "--workers", "0"],
        "evaluate": ["--from", trained, "--split", "valid"],
        "predict": ["--from", trained, "a <mask>"],
        "annotate": ["--from", trained, "--data", data, "--column", "new"],
        "collocations": ["--data", data, "--out", "found.tsv"],
        "spans": ["--data", data, "--column", "new"],
        "inspect": ["--data", data, "--masker", "uniform"],
        "variance": ["--data", data, "--from", trained, "--masker", "uniform", "--masker", "span"],
        "convert": ["--run", trained],
        "list": ["--data", data],
    }

    def end(verb, *arguments):
        capsys.readouterr()
        code = main.run(main.main, [verb, *needed[verb], *arguments])
        error = capsys.readouterr().err
        assert error.startswith("taskmask: error: ") and error.count("\n") == 1 and not list(tmp_path.iterdir()), error
        return code, error

    return end


NUMBERS = {
    "preprocess": ["--workers", "--vocab-size", "--vocab-sample", "--vocab-sentinels"],
    "predict": ["--top", "--batch-size"],
    "collocations": ["--size", "--min-count"],
    "inspect": ["--rows", "--sample", "--draws", "--seed"],
    "variance": ["--rows", "--draws", "--seed", "--project"],
}


@pytest.mark.parametrize("value", ["nan", "inf", "1.5", "1e3", "x", "1_000", "\u0661", HUGE, "-" + HUGE])
@pytest.mark.parametrize("verb", NUMBERS)
def test_numbers(verb, value, end):
    for option in NUMBERS[verb]:
        code, error = end(verb, f"{option}={value}")
        assert code == 2 and f"{option}: {value!r} is no whole number from " in error


TEXTS = {
    "preprocess": ["--train", "--valid", "--out", "--text", "--label", "--label-names", "--number", "--list", "--words",
                   "--tags", "--word-column", "--vocab"],
    "evaluate": ["--from", "--data", "--split"],
    "predict": ["--from", "--device"],
    "annotate": ["--from", "--data", "--column", "--split", "--to-tsv", "--leave-out"],
    "collocations": ["--data", "--out", "--split"],
    "spans": ["--data", "--column", "--split", "--jsonl", "--collocations"],
    "inspect": ["--data", "--split", "--html", "--text"],
    "variance": ["--data", "--from", "--split", "--html", "--tensorboard"],
    "convert": ["--run", "--from-hf", "--to-hf"],
    "list": ["--data"],
}  # fmt: skip


@pytest.mark.parametrize("verb", TEXTS)
def test_an_empty_value_is_not_taken_for_an_option_left_out(verb, end):
    """`--data "$DATA"` of a variable that is not set."""
    for option in TEXTS[verb]:
        code, error = end(verb, option, "")
        assert code == 2 and f"{option}: is empty; leave it out, or look whether a variable" in error


def test_a_vocabulary_that_none_can_be(end):
    code, error = end("preprocess", "--vocab-size", "300", "--vocab-sentinels", "300")
    assert code == 2 and "300 sentinels are no part of 300 pieces" in error
    for value in ("nan", "-1", "0.5", "1e-320"):
        code, error = end("preprocess", "--vocab-size", "300", f"--character-coverage={value}")
        assert code == 2 and "expected 0.98 to 1" in error


@pytest.mark.parametrize(("verb", "option"), [("preprocess", "--out"), ("convert", "--to-hf"), ("convert", "--run")])
def test_the_root_is_no_output(verb, option, end):
    code, error = end(verb, option, "/", *(["--from-hf", "."] if option == "--run" else []))
    assert code == 2 and f"{option} /: is the root of the file system" in error


def test_a_file_that_is_given_twice_is_named(texts, data, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    files = [str(texts / name) for name in ("train.txt", "valid.txt")]
    (tmp_path / "link.txt").symlink_to(files[0])
    options = ["--vocab", data, "--out", "out", "--overwrite", "--workers", "0"]
    for arguments, says in [
        (["--train", *files, "--valid", "link.txt"], [f"{files[0]} is in splits train and valid"]),
        (["--train", files[0], files[0]], [f"{files[0]} is in split train twice"]),
        (["--train", files[0], "--valid", files[1]], []),
    ]:
        assert main.run(main.main, ["preprocess", *arguments, *options]) == 0
        assert capsys.readouterr().err == "".join(f"taskmask: warning: {one}\n" for one in says)
