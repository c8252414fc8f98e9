"""Reading text files: .txt, .tsv, .csv, .jsonl, CoNLL's and SQuAD's, plain or .gz, in chunks of whole rows.

What is done to the text: it must be strict UTF-8 (or is mended, see `taskmask.preprocess.utf8`); a byte order mark at
the start of a file is dropped; only a line feed ends a line (a carriage return before it is dropped, U+2028 is an
ordinary character); every other control character (U+0000 to U+001F, U+007F) becomes a space, also inside the strings
of a .jsonl file.
"""

from __future__ import annotations

import dataclasses
import gzip
import os
import stat
import tempfile
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from taskmask.errors import ConfigError, DataError, StorageError
from taskmask.preprocess import python_docs, squad
from taskmask.preprocess.detect import layout_of
from taskmask.preprocess.fields import is_blank
from taskmask.preprocess.schema import Fields, Layout
from taskmask.preprocess.tables import DELIMITERS, quoting_in, whole_rows
from taskmask.preprocess.utf8 import decode, mend

# how a file is named -> its format
FORMATS = {"txt": "txt", "tsv": "tsv", "csv": "csv", "jsonl": "jsonl", "conll": "conll", "iob": "conll",
           "iob2": "conll", "bio": "conll", "conllu": "conll", "conllup": "conll", "json": "squad"}  # fmt: skip
CHUNK = 2 << 20  # bytes of text read and encoded at once
HEAD = 1 << 20  # bytes looked at to find out the layout of a file
LONGEST_LINE = 256 << 20  # bytes
_TORN = {"conll": "sentence", "squad": "file"}  # what --on-bad-utf8 skip would tear
LONGEST_SQUAD = 1 << 30  # bytes of a file that is read whole
_DAMAGE = (EOFError, zlib.error, gzip.BadGzipFile)
LONGEST_SENTENCE = 16 << 20  # bytes of a CoNLL file without a blank line
STDIN = "-"
BYTE_ORDER_MARK = b"\xef\xbb\xbf"


@dataclass(frozen=True)
class Chunk:
    """Whole lines of one file.

    Attributes:
        layout: how to parse them.
        first_line: number of the first line in its file, from 1.
        text: the bytes, UTF-8 unchecked.
        ends_document: no line of the next chunk belongs to the last document of this one (txt with blank lines).
        bytes_read: bytes of the (compressed) file read up to here.
    """

    layout: Layout
    first_line: int
    text: bytes
    ends_document: bool
    bytes_read: int


@dataclass
class Source:
    """An input file, checked and ready to be read any number of times.

    Attributes:
        layout: its name for messages, format and fields.
        path: the file; the spooled copy of standard input; the lines made of a SQuAD file; a `python-docs:` name.
        size: bytes on the disk.
        spool: keeps a spooled copy alive.
        on_bad_utf8: what is done with lines that are not UTF-8: "stop", "replace" or "skip".
        bad_lines: how many of them there were when the file was read last.
        first_bad: where the first of them is.
        doubt: what in the file looks as if it was to be read otherwise; empty if nothing does.
    """

    layout: Layout
    path: str
    size: int
    spool: IO[bytes] | None = None
    on_bad_utf8: str = "stop"
    bad_lines: int = 0
    first_bad: str = ""
    doubt: str = ""

    def chunks(self) -> Iterator[Chunk]:
        """Reads the file in chunks of about `CHUNK` bytes."""
        line = 1
        if self.layout.format != "squad":  # which was mended as a whole, when it was opened
            self.bad_lines = 0
        waiting: Chunk | None = None  # held back until it is known how the next one begins
        blocks = _read_lines(self.path, self.layout.name)
        if self.layout.format == "conll":
            blocks = _whole_sentences(blocks, self.layout.name)
        if self.layout.quoted:
            blocks = whole_rows(blocks, self.layout.delimiter)
        for raw, position in blocks:
            text = raw if self.on_bad_utf8 == "stop" else self._mended(raw, line)
            if text:
                if waiting:
                    yield dataclasses.replace(waiting, ends_document=is_blank(text.partition(b"\n")[0]))
                waiting = Chunk(self.layout, line, text, True, position)
            line += raw.count(b"\n")
        if waiting:
            yield waiting

    def _mended(self, text: bytes, first_line: int) -> bytes:
        text, bad, (line, byte) = mend(text, self.on_bad_utf8, keep_empty=self.layout.format != "txt")
        if bad and not self.bad_lines:
            self.first_bad = f"{self.layout.name}:{first_line + line - 1}:{byte}"
        self.bad_lines += bad
        return text


def find_sources(
    paths: dict[str, list[str]],
    fields: Fields | None = None,
    *,
    input_format: str | None = None,
    documents: str = "auto",
    on_bad_utf8: str = "stop",
) -> dict[str, list[Source]]:
    """Checks all input files and finds their layouts, before any work.

    Args:
        paths: split -> files, `-` for standard input, or `python-docs:train|valid|test`.
        fields: which fields to take; None: those that `Fields()` finds.
        input_format: format of all files; None: by their names.
        documents: what a document of a txt file is: "line", "blank" (between blank lines), or "auto".
        on_bad_utf8: what is done with lines that are not UTF-8: "stop", "replace" or "skip".

    Returns:
        split -> sources.

    Raises:
        DataError: names every file that is missing, a folder, unreadable, empty or of no known format.
    """
    flat = [path for files in paths.values() for path in files]
    problems = [problem for path in dict.fromkeys(flat) if (problem := _problem(path, input_format))]
    if flat.count(STDIN) > 1:
        problems.append(f"{STDIN} (standard input) is given more than once")
    if problems:
        raise DataError("; ".join(problems), where="input files" if len(problems) > 1 else "input file")
    opened = {split: [_open(path, input_format, on_bad_utf8) for path in files] for split, files in paths.items()}
    txt = next((head for files in opened.values() for _, format, head in files if format == "txt"), b"")
    if documents == "auto":
        documents = "blank" if _has_blank_lines(txt) else "line"
    asked = fields or Fields()
    formats = {format for files in opened.values() for _, format, _ in files}
    if asked.quoted and not formats & {"tsv", "csv"}:
        raise ConfigError("goes with tables", where="--quoted", expected="tsv files, or --input-format tsv")
    if asked.delimiter and "csv" not in formats:
        raise ConfigError("goes with csv files", where="--delimiter", expected="csv files, or --input-format csv")
    sources: dict[str, list[Source]] = {}
    for split, files in opened.items():
        wanted = asked
        sources[split] = []
        for source, format, head in files:
            if on_bad_utf8 != "stop" and format not in DELIMITERS:  # whose header must be right
                head = mend(head, on_bad_utf8, keep_empty=True)[0]
            layout = layout_of(source.layout.name, format, head, wanted, documents)
            if on_bad_utf8 == "skip" and (format in _TORN or layout.quoted):
                raise ConfigError(
                    f"would tear the {_TORN.get(format, 'row')} of a line that is not UTF-8",
                    where=f"--on-bad-utf8 skip, {source.layout.name}",
                    fix="give --on-bad-utf8 replace",
                )
            wanted = _decided(wanted, layout)  # by the first file of the split
            doubt = quoting_in(head) if format == "tsv" and not layout.quoted else ""
            done = dataclasses.replace(source, layout=layout, on_bad_utf8=on_bad_utf8, doubt=doubt)
            sources[split].append(done)
        # all splits are of one form; the first has the labels that were asked for, others may be for prediction
        asked = dataclasses.replace(asked, form=wanted.form, conll=asked.conll or wanted.conll, optional=True)
    return sources


def _decided(fields: Fields, layout: Layout) -> Fields:
    """The fields that the files after one with this layout must have."""
    decided = dataclasses.replace(fields, form=layout.form, label=layout.label, optional=False)
    decided = dataclasses.replace(decided, number=layout.number, lists=layout.lists)
    if layout.form == "tags":
        return dataclasses.replace(decided, tags=layout.tags, conll=fields.conll or layout.conll)
    return dataclasses.replace(decided, has_answers=layout.has_answers)


def total_bytes(sources: Iterable[Source]) -> int:
    """Bytes on the disk of all sources."""
    return sum(source.size for source in sources)


def _format_of(path: str, input_format: str | None) -> str | None:
    if python_docs.is_python_docs(path):
        return "jsonl"
    if input_format:
        return input_format
    suffix = Path(path.removesuffix(".gz")).suffix.removeprefix(".")
    return FORMATS.get(suffix, "txt" if path == STDIN or _is_stream(path) else None)


def _is_stream(path: str) -> bool:
    """Whether the path can be read only once: a pipe, such as `<(zcat ...)`."""
    try:
        return stat.S_ISFIFO(os.stat(path).st_mode)
    except OSError:
        return False


def _problem(path: str, input_format: str | None) -> str:
    """What is wrong with an input path; empty if nothing. Reads at most the first bytes."""
    if path == STDIN or _is_stream(path):
        return ""
    if python_docs.is_python_docs(path):
        return python_docs.problem(path)
    try:
        if os.path.isdir(path):
            return f"{path} is a folder"
        with _open_file(path) as file:
            empty = not file.read(1)
    except gzip.BadGzipFile as error:
        return f"{path}: {str(error).lower()}"
    except (EOFError, zlib.error):
        return f"{path} is a damaged gzip file"
    except OSError as error:
        return f"{path}: {(error.strerror or str(error)).lower()}"
    if empty:
        return f"{path} is empty"
    if _format_of(path, input_format) is None:
        return f"{path} is not named .{', .'.join(FORMATS)} (or .gz of these); give --input-format"
    return ""


def _open(path: str, input_format: str | None, on_bad_utf8: str) -> tuple[Source, str, bytes]:
    """A source without its layout yet, its format, and its first lines."""
    format = _format_of(path, input_format) or "txt"
    name, spool = path, None
    if path == STDIN or _is_stream(path):
        name = "standard input" if path == STDIN else path
        spool, path = _spool(path, name)
    bad = 0, ""
    if format == "squad":
        spool, path, bad = _spool_squad(path, name, on_bad_utf8)
    size = python_docs.size(path) if python_docs.is_python_docs(path) else os.path.getsize(path)
    try:
        with _open_file(path) as file:
            head = file.read(HEAD) + file.readline(LONGEST_LINE)
    except _DAMAGE as error:
        raise _damaged(name) from error
    if is_blank(head):
        raise DataError("there is no text", where=name)
    source = Source(Layout(name, format), path, size, spool, on_bad_utf8, *bad)
    return source, format, head.removeprefix(BYTE_ORDER_MARK)


def _spool(path: str, name: str) -> tuple[Any, str]:
    """Copies a stream to a temporary file, since the input is read twice."""
    with open(0 if path == STDIN else path, "rb", closefd=path != STDIN) as stream:
        return _spooled(iter(lambda: stream.read(CHUNK), b""), name)


def _spool_squad(path: str, name: str, on_bad_utf8: str) -> tuple[Any, str, tuple[int, str]]:
    """Writes the questions of a SQuAD file to a temporary one, as lines of jsonl, so that memory is free again.

    Returns:
        (the file, its path, (number of lines that are not UTF-8, place of the first)).
    """
    try:
        with _open_file(path) as file:
            raw = file.read(LONGEST_SQUAD + 1).removeprefix(BYTE_ORDER_MARK)
            if len(raw) > LONGEST_SQUAD:
                raise DataError(
                    f"is larger than {LONGEST_SQUAD >> 30} GiB", where=name, fix="split it into several files"
                )
    except _DAMAGE as error:
        raise _damaged(name) from error
    bad, first_bad = 0, ""
    if on_bad_utf8 != "stop":
        raw, bad, (line, byte) = mend(raw, "replace")
        first_bad = f"{name}:{line}:{byte}"
    return *_spooled(squad.lines_of(decode(raw, name, 1), name), name), (bad, first_bad)


def _spooled(blocks: Iterable[bytes], name: str) -> tuple[Any, str]:
    """A temporary file and its path; it has no other name, so nothing is left of it whatever ends the program."""
    copy = tempfile.TemporaryFile()  # noqa: SIM115  gone when the source is
    try:
        copy.writelines(blocks)
        copy.flush()
    except OSError as error:
        raise StorageError(
            f"cannot copy {name}: {error.strerror}",
            where=tempfile.gettempdir(),
            fix="set TMPDIR to a folder with more space",
        ) from error
    return copy, f"/proc/self/fd/{copy.fileno()}"


def _open_file(path: str) -> IO[bytes]:
    if python_docs.is_python_docs(path):
        return python_docs.open_records(path)
    file = open(path, "rb")  # noqa: SIM115  closed by the caller
    return _Gzip(file) if path.endswith(".gz") else file  # type: ignore[return-value]


class _Gzip(gzip.GzipFile):
    """A gzip file that closes the file below, and tells the position in it."""

    def __init__(self, below: IO[bytes]):
        super().__init__(fileobj=below, mode="rb")
        self.below = below

    def close(self) -> None:
        """Closes both."""
        super().close()
        self.below.close()


def _read_lines(path: str, name: str) -> Iterator[tuple[bytes, int]]:
    """Blocks of whole lines, each with the position in the file on the disk. The last may lack its line feed."""
    with _open_file(path) as file:
        rest = [_read(file, len(BYTE_ORDER_MARK), name).removeprefix(BYTE_ORDER_MARK)]
        while block := _read(file, CHUNK, name):
            position = file.below.tell() if isinstance(file, _Gzip) else file.tell()
            stop = block.rfind(b"\n") + 1
            if stop:
                yield b"".join([*rest, block[:stop]]), position
                rest = []
            rest.append(block[stop:])
            if len(rest) * CHUNK > LONGEST_LINE:
                raise DataError(
                    f"a line is longer than {LONGEST_LINE >> 20} MiB", where=name, fix="put line breaks into the text"
                )
        if last := b"".join(rest):
            yield last, file.below.tell() if isinstance(file, _Gzip) else file.tell()


def _read(file: IO[bytes], size: int, name: str) -> bytes:
    """Reads up to `size` bytes; a damaged gzip file is a DataError."""
    try:
        return file.read(size)
    except _DAMAGE as error:
        raise _damaged(name) from error


def _whole_sentences(blocks: Iterator[tuple[bytes, int]], name: str) -> Iterator[tuple[bytes, int]]:
    """The same lines in blocks that end after a blank line, but for the last."""
    rest, position = b"", 0
    for block, position in blocks:
        text = rest + block
        stop = _end_of_blank_line(text)
        if stop:
            yield text[:stop], position
        rest = text[stop:]
        if len(rest) > LONGEST_SENTENCE:
            raise DataError(
                f"there are {LONGEST_SENTENCE >> 20} MiB without a blank line",
                where=name,
                expected="a word a line, and blank lines between sentences",
            )
    if rest:
        yield rest, position


def _end_of_blank_line(text: bytes) -> int:
    """Where the last blank line of whole lines ends; 0 if there is none."""
    stop = text.rfind(b"\n") + 1
    while stop:
        start = text.rfind(b"\n", 0, stop - 1) + 1
        if is_blank(text[start:stop]):
            break
        stop = start
    return stop


def _damaged(name: str) -> DataError:
    return DataError("the gzip file is damaged or ends too early", where=name, fix="copy it again")


def _has_blank_lines(head: bytes) -> bool:
    """Whether blank lines separate documents: at least one line of a hundred, inside the text, is blank."""
    lines = head.strip().split(b"\n")
    return sum(map(is_blank, lines)) * 100 >= len(lines) and any(map(is_blank, lines))
