"""What can go wrong, and what happens then: the table, and the check that every row of it is shown by a test.

A test shows rows with `@pytest.mark.fault(13, 14)`. Every error ends with one line, its exit code and whole files.
"""

import ast
import re
from pathlib import Path

from taskmask import errors

TESTS = Path(__file__).parent
FAULTS = {
    # text files
    1: "inputs that are missing, folders or unreadable: all named before any work, exit 3",
    2: "no text in the input: exit 3, no dataset",
    3: "bytes that are no UTF-8: exit 3 with file, line and byte; --on-bad-utf8 replace|skip goes on and counts them",
    4: "NUL, BOM, CRLF, U+2028 and lone surrogates: a defined result",
    5: "a line of 100 MB, or a document longer than a row: bounded memory, nothing lost",
    6: "a vocabulary that is missing, empty, cut or noise: exit 3 with the path and the reason",
    7: "a vocabulary without the special pieces, or too large for its integers: exit 3, or wider integers",
    8: "the output exists: refused without --overwrite, which replaces it at the end",
    9: "killed while preprocessing: nothing under the final name; the next call cleans up",
    10: "disk full while preprocessing: exit 7, nothing left",
    11: "a worker of preprocess dies: an error, never a short dataset",
    12: "any number of workers: the same bytes",
    # the dataset
    13: "a header with a flipped byte, of the future, or noise: exit 3, no large allocation",
    14: "files shorter or longer than the header says: exit 3 on opening",
    15: "offsets that are negative, fall, overlap or leave the file: exit 3 before any allocation",
    16: "a flipped bit in the data: found at the first use, beyond 256 MiB a file by list --verify, with the file",
    17: "a token outside the vocabulary: exit 3 naming the document, no IndexError of an embedding",
    18: "a file cut while it is being trained on: the file is named, the next start ends with 3",
    19: "a dataset of another vocabulary than the model's: both fingerprints",
    20: "the data changed before a resume: exit 4",
    21: "fewer rows than processes, or than one batch: no hang",
    22: "paths that lead out of the dataset: exit 3",
    # settings and plug-ins
    23: "an unknown option: exit 2 with the nearest one",
    24: "settings that contradict each other: exit 2, all at once, before the data is opened",
    25: "a plug-in that does not run, or registers nonsense: exit 2 with its file and line",
    26: "a plug-in called like a module of the standard library: shadows nothing",
    27: "a plug-in in loader workers that are forked, spawned or served: the same batches",
    28: "a policy that returns nonsense: exit 2 naming it; nothing masked is a loss of nothing",
    29: "a policy that raises on a row: names the policy, its line, and the row",
    # numbers
    30: "a loss that is not finite in one process: all skip the step; many in a row: exit 5, crash.pt, the module",
    31: "a spike of the gradient: skipped where train.skip_spikes is set",
    32: "fp16 overflows for ever: exit 5 at the floor of the loss scale",
    33: "a parameter without a gradient in several processes: named",
    34: "out of memory in the forward or backward pass: the step is skipped, by all; in the update: exit 5",
    # checkpoints
    35: "killed at any instant, also inside a save: the same command goes on to the same bits",
    36: "disk full at a save: exit 7, the checkpoint before is whole",
    37: "the last checkpoint is damaged: named, and the one before it is used",
    38: "a checkpoint of another model, or of a newer format: exit 4 with the first differences",
    39: "code in a checkpoint: refused, not run",
    40: "archives that are bombs, have doubled records or lead elsewhere: refused before allocation",
    41: "a run folder that cannot be written: exit 7 at the start",
    42: "two runs in one folder: the second ends with 2, naming the first",
    43: "resumed at step 0, at the border of an epoch, after the end: nothing doubled, nothing rewritten",
    44: "resumed with other numbers of processes or workers: every row once, the same bits",
    45: "resumed with other settings: refused, with the list of changes",
    46: "a clock that jumps, a locale without UTF-8, strange paths: nothing changes",
    47: "a log with a torn last line: cut, no step twice",
    # processes and signals
    48: "a process is killed, raises or leaves: the others end within seconds, with 6",
    49: "a process hangs: named by the others when their patience ends",
    50: "a process skips a step of the exchange: found in the same update",
    51: "weights of one process drift from those of the others: found within run.log_every steps",
    52: "SIGTERM, SIGINT, SIGUSR1 or SIGHUP to all or one: one checkpoint, exit 75; a second one ends at once",
    53: "a signal during start, validation, a save or the last step: no deadlock, nothing twice",
    54: "run.stop_after_minutes: as a signal",
    55: "torchrun dies: its processes save and leave",
    56: "torchrun --max-restarts: restarts from the checkpoint to the same bits",
    57: "processes that cannot find each other, or do not share the run folder: said at the start",
    58: "a loader worker dies, hangs or raises: one line",
    59: "nobody reads the output, no terminal, a narrow one: no traceback, no garbage",
    60: "TensorBoard cannot be written, from the start or suddenly: a warning once, training goes on",
    # outputs
    61: "a dead reader or a full disk behind stdout or stderr: the work goes on in silence; never 0 without it",
    62: "two writers of one output: the second ends with 2, naming the first; nothing finished is lost or mixed",
    63: "an output that was taken meanwhile, or is a link: never deleted; the finished result is kept beside it",
    64: "links in what comes from strangers: not followed where files are made",
    65: "Ctrl-C at the end of adding a column: the dataset opens, with the column or without it",
    66: "a flipped bit anywhere in a checkpoint: exit 4, or the same weights",
    67: "an error in a validation: the steps before it are saved",
    68: "a flipped bit in labels, tags, texts or answers: exit 3 with file, row and value, at the first use",
    69: "any text file changed at random: one line with its place, or what a slow reader reads",
    80: "a result file or a later split that cannot be written: what was computed is kept, the same command goes on",
    75: "a header, vocabulary, index or file of settings of 3 GB, or without an end: refused at once, no memory used",
    76: "a checkpoint that its run removes while others read it: the best is chosen anew",
    81: "data that is replaced or removed while it is read: the reader goes on with it, or says what happened",
    85: "a number format in which this machine is slow: named with both times; auto takes the faster, evaluation fp32",
    86: "other programs on the same cores: waiting threads sleep soon; a container has its quota of threads",
    77: "a masker that changes folder, threads, signals or environment: no harm; taskmask check names it",
    78: "little address space, or no /dev/shm for workers: one line with what to do, exit 7; never an abort or a hang",
}


def marks():
    """Yields (row, file) for every mark of a test."""
    for file in sorted(TESTS.rglob("test_*.py")):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "pytest.mark.fault":
                yield from ((argument.value, file.name) for argument in node.args)


def test_every_row_is_shown_by_a_test_and_every_mark_is_a_row():
    assert {row for row, _ in marks()} == set(FAULTS)


def test_every_exit_code_of_an_error_is_asserted_by_a_test():
    classes = [cls for cls in vars(errors).values() if isinstance(cls, type) and issubclass(cls, errors.TaskmaskError)]
    source = "\n".join(file.read_text(encoding="utf-8") for file in TESTS.rglob("test_*.py"))
    for code in {cls.exit_code for cls in classes}:
        assert re.search(rf"== \[?{code}\b", source), code
