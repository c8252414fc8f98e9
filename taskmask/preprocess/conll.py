"""CoNLL files: one word per line, in columns, with blank lines between sentences.

The first lines of a file decide how it is read:

- *Columns* are split at tabs if at least half of the lines of words have one, else at blanks.
- *Words* are in column 1. If that column counts the words of each sentence (CoNLL-X, CoNLL-U, GermEval), they are in
  column 2. A column 1 that cannot be the words is an error: numbers (also as `1.`, `T1` or `1-2`), or one value in each
  sentence, nearly everywhere.
- *Tags* are in the last column; in CoNLL-U, whose last column holds remarks, in column 4 (UPOS). Brackets around
  entities (CoNLL-2012: `(PER*`, `*`, `*)`, `(PER)`) become `B-PER`, `I-PER` and `O`.

Lines that are left out, and counted:

- *Comments* begin with `#` and come before the first word of a sentence. If column 1 counts the words, each such line
  is a comment. Else `#begin document` and `#end document` are comments, and so is a `#` before a blank or tab, if the
  line has another number of columns than the lines of words. With as many columns it is the word `#`, but for one
  exception: such lines are comments if they open every sentence of the first lines, two at least, or begin with `# id`.
- *Ranges* (`1-2`) and *empty nodes* (`1.1`) of CoNLL-U: the words are the syntactic words, which have tags.

A line with the word `-DOCSTART-` ends a sentence.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace

from taskmask.errors import DataError, did_you_mean
from taskmask.preprocess.fields import shown
from taskmask.preprocess.tagged import Sentence
from taskmask.tokenizer.text import TO_SPACE_BUT_LINE_FEED, TO_SPACE_BUT_TAB

COMMENTS, NODES = "comments", "ranges and empty nodes"
_CONLLU = ("ID", "FORM", "LEMMA", "UPOS", "XPOS", "FEATS", "HEAD", "DEPREL", "DEPS", "MISC")
_DOCUMENT_START = b"-DOCSTART-"
_DOCUMENT_BOUNDS = (b"#begin document", b"#end document")
_COLUMN_NAMES = re.compile(rb"#\s*global\.columns\s*=\s*(.*)")  # CoNLL-U Plus
_NODE = re.compile(rb"\d+[-.]\d+")
_NUMBERING = re.compile(rb"\W*[A-Za-z]?\W*\d+(?:\W+\d+)*\W*")  # 1, 1., (1), T1, 1-2
_BRACKET = re.compile(r"(\((?P<type>[^()*]+))?(\*?\)|\*)")  # CoNLL-2012
_ID_COMMENT = re.compile(rb"#\s+id\s")  # MultiCoNER
_TO_SPACE_BUT_BOTH = TO_SPACE_BUT_TAB[:10] + b"\n" + TO_SPACE_BUT_TAB[11:]
_HEAD = 1 << 17  # bytes that decide
Rows = list[list[list[bytes]]]  # sentences, lines, columns


@dataclass(frozen=True)
class Columns:
    """How the lines of a CoNLL file are divided.

    Attributes:
        at_tabs: columns are split at tabs, not at blanks.
        width: columns of the line of a word; 0 if sentences differ.
        word: the column of the words, from 1.
        tag: the column of the tags, from 1; 0: there are none.
        counts: column 1 counts the words of each sentence.
        brackets: the tags are brackets around entities.
        has_openings: each sentence begins with a comment that has as many columns as the lines of words.
        names: of the columns, if they are known.
        tags: those of the first lines.
    """

    at_tabs: bool
    width: int
    word: int
    tag: int
    counts: bool = False
    brackets: bool = False
    has_openings: bool = False
    names: tuple[str, ...] = ()
    tags: frozenset[str] = frozenset()

    @property
    def division(self) -> str:
        """What divides the columns."""
        return "tabs" if self.at_tabs else "blanks"

    @property
    def shape(self) -> str:
        """What is seen in the first line of a word, for messages."""
        counted = ", the first of which counts the words" if self.counts else ""
        return f"the line has {self.width} columns{counted}, split at {self.division}"

    def described(self, column: int) -> str:
        """The number of a column, with its name if that is known."""
        return f"column {column}" + (f" ({self.names[column - 1]})" if column <= len(self.names) else "")


def find_columns(
    head: bytes,
    name: str,
    word: int | str = 0,
    tag: int | str = 0,
    has_tags: bool | None = None,
    before: Columns | None = None,
) -> Columns:
    """Finds the columns of a file from its first lines.

    Args:
        head: whole lines.
        name: of the file.
        word: the column of the words, from 1, or its name; 0: see above.
        tag: the column of the tags, from 1, or its name; 0: see above.
        has_tags: whether there are tags; None: if there is a column for them.
        before: the columns of the first file. If its column 1 counts the words, or in a file with comments, sentences
            of one word are enough to tell that column 1 counts.

    Raises:
        DataError: there is no word, no such column, column 1 does not hold words, or the last column may not be that of
            the tags, since the first file has more columns between words and tags.
    """
    found, rows, where = _divided(head, name, before is not None and before.counts and word != 1)
    if word == 1:
        found = replace(found, counts=False)
    names = found.names
    by_rule = names.index("FORM") + 1 if "FORM" in names else 1 + found.counts
    word_column = _numbered(word, found, where, "--word-column") or by_rule
    if not word and word_column == 1:
        _check_words(rows, found.width, where)
    if has_tags is None:
        has_tags = found.width > max(1, word_column if found.counts else 1)
        has_tags &= not isinstance(tag, int) or tag <= found.width
    found = replace(found, word=word_column)
    if not has_tags:
        return found
    by_rule = names.index("UPOS") + 1 if names == _CONLLU else found.width
    tag_column = _numbered(tag, found, where, "--tag-column") or by_rule
    if tag_column == word_column:
        expected = f"the tag in column {tag}, the word in another" if tag else "a word and its tag"
        raise DataError(found.shape, where=where, expected=expected)
    width = found.width
    if tag and all(len({len(row) for row in sentence}) == 1 for sentence in rows):  # sentences may differ
        widths = {len(sentence[0]) for sentence in rows}
        width = width if len(widths) == 1 or min(widths) < max(word_column, tag_column) else 0
    cells = [row[tag_column - 1] for sentence in rows for row in sentence if len(row) >= tag_column]
    tags = {cell.decode(errors="replace") for cell in cells}
    brackets = all(map(_BRACKET.fullmatch, tags)) and any("(" in tag for tag in tags)
    found = replace(found, tag=tag_column, width=width, brackets=brackets, tags=frozenset(tags))
    if not tag and before:
        _check_tags(found, before, where)
    return found


def _check_tags(found: Columns, before: Columns, where: str) -> None:
    """Raises DataError if the first file has more columns, and other tags: these may be parts of speech, say."""
    if found.tag - found.word < before.tag - before.word and not found.tags & before.tags:
        first = shown(min(found.tags), 20)
        raise DataError(
            f"{found.shape}, and the last holds {first}, which is no tag of the first file",
            where=where,
            expected=f"{before.width} columns, as there, with the tags in column {before.tag}",
            fix=f"give --tag-column {before.tag} if these words have no tags",
        )


def sentences_of(text: bytes, columns: Columns, name: str, first_line: int) -> tuple[list[Sentence], dict[str, int]]:
    """The sentences in whole lines of a CoNLL file, UTF-8, and how many lines of each kind were left out.

    Raises:
        DataError: with file and line: another number of columns, an empty word.
    """
    sentences: list[Sentence] = []
    words: list[str] = []
    tags: list[str] = []
    skipped = {COMMENTS: 0, NODES: 0}
    at_word, at_tag, at_tabs = columns.word - 1, columns.tag - 1, columns.at_tabs
    width, is_first = columns.width, True
    text = text.translate(_TO_SPACE_BUT_BOTH if at_tabs else TO_SPACE_BUT_LINE_FEED)
    for number, line in enumerate([*text.split(b"\n"), b""], first_line):
        if not line or line.isspace() or (_DOCUMENT_START in line and _starts_document(line, columns)):
            if words:
                sentences.append((words, _without_brackets(tags, f"{name}:{number}") if columns.brackets else tags))
                words, tags = [], []
            width, is_first = columns.width, True
            continue
        if not words and line.startswith(b"#") and _is_comment(line, columns, is_first):
            skipped[COMMENTS] += 1
            is_first = False
            continue
        is_first = False
        cells = line.split(b"\t") if at_tabs else line.split()
        if len(cells) != width:
            cells = _fitted(cells, width, line, columns, f"{name}:{number}")
            width = len(cells)
        if columns.counts and not cells[0].strip().isdigit():
            _check_node(cells[0].strip(), f"{name}:{number}")
            skipped[NODES] += 1
            continue
        word, tag = cells[at_word].strip(), cells[at_tag].strip() if columns.tag else b"O"
        if not word:
            what = f"the word is empty: {shown(line.decode())}"
            raise DataError(what, where=f"{name}:{number}", expected="a word and its tag")
        words.append(word.decode())
        if columns.tag:
            tags.append(tag.decode())
    return sentences, skipped


def _divided(head: bytes, name: str, counts: bool) -> tuple[Columns, Rows, str]:
    """(the columns but for words and tags, the lines of words by sentence, the place of the first)."""
    sentences: list[list[tuple[int, bytes]]] = [[]]
    head = head[: head.find(b"\n", _HEAD) + 1 or len(head)].translate(_TO_SPACE_BUT_BOTH)
    for number, line in enumerate(head.split(b"\n"), 1):
        if not line.strip() or line.startswith(_DOCUMENT_START):
            sentences.append([])
        else:
            sentences[-1].append((number, line))
    lines = [line for sentence in sentences for _, line in sentence]
    hash_is_word = all(line.startswith(b"#") for line in lines)
    of_words = [[(n, line) for n, line in one if hash_is_word or not line.startswith(b"#")] for one in sentences]
    openings = [sentence[0][1] for sentence, words in zip(sentences, of_words, strict=True) if words]
    if not openings:
        raise DataError("there is no word", where=name, expected="lines of a word and its tag")
    plain = [line.rstrip() for sentence in of_words for _, line in sentence]
    at_tabs = 2 * sum(b"\t" in line for line in plain) >= len(plain)
    rows = [[_split(line, at_tabs) for _, line in sentence] for sentence in of_words if sentence]
    width = len(rows[0][0])
    first = next(number for sentence in of_words for number, _ in sentence)
    counts = _counts(rows, counts or len(plain) < len(lines))
    are_comments = all(_is_hash(line) and len(_split(line, at_tabs)) == width for line in openings)
    has_openings = are_comments and (len(openings) > 1 or bool(_ID_COMMENT.match(openings[0]))) and not hash_is_word
    names = next((found[1].decode(errors="replace") for line in lines if (found := _COLUMN_NAMES.match(line))), "")
    known = tuple(names.split()) or (_CONLLU if counts and at_tabs and width == len(_CONLLU) else ())
    columns = Columns(at_tabs, width, 0, 0, counts, has_openings=has_openings, names=known)
    return columns, rows, f"{name}:{first}"


def _split(line: bytes, at_tabs: bool) -> list[bytes]:
    """The columns of a line; empty ones at its end, which trailing tabs make, are left out."""
    return [cell.strip() for cell in line.rstrip().split(b"\t")] if at_tabs else line.split()


def _is_hash(line: bytes) -> bool:
    """Whether the first column is `#` alone."""
    return line[1:2] in (b" ", b"\t", b"")


def _counts(rows: Rows, is_expected: bool) -> bool:
    """Whether column 1 counts the words: of each sentence from 0 or 1, or on from the sentence before."""
    is_long, before = False, 0
    for sentence in rows:
        cells = [row[0] for row in sentence if not (len(row) > 1 and _NODE.fullmatch(row[0]))]
        if any(len(row) < 2 for row in sentence) or not all(cell.isdigit() and len(cell) < 10 for cell in cells):
            return False
        if sentence and not cells:  # ranges alone, as 1-2 of WebAnno is, number the words
            return False
        numbers = [int(cell) for cell in cells]
        if numbers and (numbers[0] not in (0, 1, before + 1) or numbers != list(range(numbers[0], numbers[-1] + 1))):
            return False
        is_long, before = is_long or len(numbers) > 1, numbers[-1] if numbers else before
    return is_long or is_expected


def _numbered(column: int | str, columns: Columns, where: str, option: str) -> int:
    """The number of a column; 0 if it is 0.

    Raises:
        DataError: there is no such column.
    """
    if isinstance(column, int):
        if column <= columns.width:
            return column
        raise DataError(columns.shape, where=where, expected=f"at least {column}, for {option} {column}")
    upper = [name.upper() for name in columns.names]
    if column.upper() in upper:
        return upper.index(column.upper()) + 1
    what = f"there is no column {column!r}" if upper else f"the columns have no names, so there is no {column!r}"
    expected = f"one of {', '.join(columns.names)}" if upper else f"a number from 1 to {columns.width}"
    raise DataError(what, where=where, expected=expected, fix=did_you_mean(column, columns.names) or f"change {option}")


def _check_words(rows: Rows, width: int, where: str) -> None:
    """Raises DataError if column 1 cannot be the words, and another column can."""
    even = [sentence for sentence in rows if all(len(row) == width for row in sentence)]
    several = [sentence for sentence in even if len(sentence) > 1]
    others = range(1, width - 1)
    is_number = _are_most(_NUMBERING.fullmatch(row[0]) for sentence in rows for row in sentence)
    is_number = is_number and any(len({row[at] for sentence in even for row in sentence}) > 1 for at in others)
    is_constant = _are_most(len({row[0] for row in sentence}) == 1 for sentence in several)
    is_constant = is_constant and any(len({row[at] for row in sentence}) > 1 for at in others for sentence in several)
    if is_number or is_constant:
        cells = [shown(cell.decode(errors="replace"), 20) for cell in rows[0][0]]
        raise DataError(
            f"column 1 holds {'numbers' if is_number else 'one value in each sentence'}",
            where=where,
            expected="words",
            fix=f"name the columns with --word-column and --tag-column; "
            f"the line has {', '.join(f'{at} {cell}' for at, cell in enumerate(cells, 1))}",
        )


def _are_most(values: Iterable[object]) -> bool:
    """Whether nine tenths are true."""
    found = list(map(bool, values))
    return bool(found) and 10 * sum(found) >= 9 * len(found)


def _starts_document(line: bytes, columns: Columns) -> bool:
    cells = line.split()
    return line.startswith(_DOCUMENT_START) or cells[columns.word - 1 : columns.word] == [_DOCUMENT_START]


def _is_comment(line: bytes, columns: Columns, is_first: bool) -> bool:
    """Whether a line that begins with `#`, before the first word of a sentence, is a comment."""
    if columns.counts or line.startswith(_DOCUMENT_BOUNDS):
        return True
    if not _is_hash(line):
        return False
    width = len(_split(line, columns.at_tabs))
    if not columns.width:
        return width < max(columns.word, columns.tag)
    return width != columns.width or (is_first and columns.has_openings)


def _fitted(cells: list[bytes], width: int, line: bytes, columns: Columns, where: str) -> list[bytes]:
    """The columns of a line without the empty ones that trailing tabs make.

    Raises:
        DataError: there are not as many as expected.
    """
    while len(cells) > max(width, 1) and not cells[-1].strip():
        cells = cells[:-1]
    least = max(columns.word, columns.tag)
    if len(cells) == width or (not width and len(cells) >= least):
        return cells
    of_which = "first line" if columns.width else "first line of the sentence"
    raise DataError(
        f"the line has {len(cells)} columns: {shown(line.decode())}",
        where=where,
        expected=f"{width}, as in the {of_which}, split at {columns.division}" if width else f"at least {least}",
        fix="move comments before the first word of a sentence" if line.startswith(b"#") else "",
    )


def _without_brackets(tags: list[str], where: str) -> list[str]:
    """The tags of a sentence as B-, I- and O."""
    found: list[str] = []
    type = ""  # of the entity that is open
    for tag in tags:
        match = _BRACKET.fullmatch(tag)
        opened = match["type"] if match else None
        if not match or (type and opened) or not (type or opened or tag == "*"):
            raise DataError(
                f"the tag {tag!r} does not fit the brackets before it",
                where=f"{where}, the sentence before",
                expected="(TYPE*, *, *) or (TYPE), one entity at a time",
            )
        type = opened or type
        found.append(f"B-{type}" if opened else f"I-{type}" if type else "O")
        type = "" if tag.endswith(")") else type
    return found


def _check_node(cell: bytes, where: str) -> None:
    if not _NODE.fullmatch(cell):
        raise DataError(
            f"column 1 is {shown(cell.decode())}",
            where=where,
            expected="the number of the word in its sentence, as in the first lines",
            fix="give --word-column 1 if the column holds the words",
        )
