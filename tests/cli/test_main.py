"""The front door: verbs, exit codes, and one line for what the user can mend."""

import errno
import os
import subprocess
import sys

import pytest

from taskmask import __version__, errors
from taskmask_cli import main as front

RUN = [sys.executable, "-m", "taskmask_cli.main"]


def ends(command, argv=()):
    return front.run(command, list(argv))


def raising(error):
    def command(argv):
        raise error

    return command


def test_help_and_version(capsys):
    for words in ([], ["--help"], ["help"], ["-h"]):
        assert front.main(words) == 0
        shown = capsys.readouterr().out
        assert all(f"  {verb} " in shown for verb in front.VERBS) and max(map(len, shown.splitlines())) <= 120
    assert front.main(["--version"]) == 0
    assert capsys.readouterr().out == f"taskmask {__version__}\n"


@pytest.mark.parametrize("verb", front.VERBS)
def test_every_verb_has_help_that_fits(verb, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "120")
    assert ends(front.main, [verb, "--help"]) == 0
    shown = capsys.readouterr().out
    assert shown.startswith("usage: taskmask") and max(map(len, shown.splitlines())) <= 120


def test_an_unknown_verb(capsys):
    assert ends(front.main, ["trian"]) == 2
    assert "unknown verb 'trian'; expected one of preprocess, train" in (shown := capsys.readouterr().err)
    assert "did you mean 'train'?" in shown


KINDS = {
    errors.ConfigError: 2,
    errors.RegistryError: 2,
    errors.DataError: 3,
    errors.CheckpointError: 4,
    errors.DivergedError: 5,
    errors.DistributedError: 6,
    errors.StorageError: 7,
    errors.Interrupted: 75,
}


@pytest.mark.parametrize(("kind", "code"), KINDS.items())
def test_exit_codes(kind, code, capsys):
    assert ends(raising(kind("it broke", where="here", expected="it whole", fix="mend it"))) == code
    word = "stopped" if code == 75 else "error"
    assert capsys.readouterr().err == f"taskmask: {word}: here: it broke; expected it whole; mend it\n"


@pytest.mark.parametrize("words", [["--debug", "list", "masker", "spam"], ["list", "masker", "spam", "--debug"]])
def test_debug_shows_the_traceback(words, capsys):
    assert ends(front.main, words) == 2
    shown = capsys.readouterr().err
    assert "Traceback" in shown and shown.splitlines()[-1].startswith("taskmask: error: unknown masker 'spam'")


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EACCES, errno.EISDIR, errno.EIO])
def test_an_error_of_the_system_is_one_line(code, capsys):
    assert ends(raising(OSError(code, os.strerror(code), "some/file"))) == 7
    shown = capsys.readouterr().err
    assert shown.startswith(f"taskmask: error: some/file: {os.strerror(code)}; ") and shown.count("\n") == 1
    assert ("make room" in shown) == (code == errno.ENOSPC)


def test_memory(capsys):
    class OutOfMemoryError(RuntimeError):
        pass

    assert ends(raising(OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB\nmore"))) == 7
    assert "--train.max_tokens" in (shown := capsys.readouterr().err) and shown.count("\n") == 1


def test_a_bug_of_ours_is_not_hidden():
    with pytest.raises(RuntimeError, match="mat1 and mat2"):
        ends(raising(RuntimeError("mat1 and mat2 shapes cannot be multiplied")))
    with pytest.raises(KeyError):
        ends(raising(KeyError("x")))


def test_ctrl_c_and_a_closed_pipe(capsys, monkeypatch):
    assert ends(raising(KeyboardInterrupt())) == 130
    assert capsys.readouterr().err == "taskmask: interrupted\n"
    process = subprocess.run(
        f"{sys.executable} -c 'import sys, time; from taskmask_cli.main import run; "
        'sys.exit(run(lambda argv: [print("x" * 9, flush=True) or time.sleep(.01) for _ in range(99)] and 0, []))\' '
        '| head -n 1; echo "${PIPESTATUS[0]}"',
        shell=True,
        executable="/bin/bash",
        capture_output=True,
        text=True,
    )
    assert (process.stdout, process.stderr) == ("xxxxxxxxx\n0\n", "")


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (["train", "--help", "--masker", "span", "--model", "base"], 0),
        (["--version"], 0),
        (["train", "--masker.rati", "1"], 2),
        (["preprocess", "--help"], 0),
        (["list", "masker", "span"], 0),
        (["evaluate", "--split"], 2),
    ],
)
def test_no_torch_where_none_is_needed(words, code):
    program = "import sys; from taskmask_cli.main import main, run; code = run(main, sys.argv[1:]); "
    program += "print({'torch', 'tensorboard'} & set(sys.modules)); sys.exit(code)"
    process = subprocess.run([sys.executable, "-c", program, *words], capture_output=True, text=True)
    assert process.stdout.splitlines()[-1] == "set()" and process.returncode == code
    assert "Traceback" not in process.stderr


def test_as_a_module():
    process = subprocess.run([*RUN, "--version"], capture_output=True, text=True)
    assert (process.returncode, process.stdout) == (0, f"taskmask {__version__}\n")
