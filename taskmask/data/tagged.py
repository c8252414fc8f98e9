"""Tagged sentences: words with a tag each, as lists in a record of jsonl, or one word a line as in CoNLL's files.

A line of a CoNLL file holds the word in its first column and the tag in its last or a chosen one. Columns are split at
tabs where the first line has one, else at blanks; a blank line ends a sentence; lines that begin with `-DOCSTART-` are
skipped.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from taskmask.data.values import TO_SPACE, TO_SPACE_BUT_TAB, is_blank, label_of, shown, text_of
from taskmask.errors import DataError

if TYPE_CHECKING:
    from taskmask.data.layout import Layout

Sentence = tuple[list[str], list[str]]  # words, and their tags or none
_DOCUMENT_START = b"-DOCSTART-"


def sentence_of(record: dict[str, Any], layout: Layout, where: str) -> Sentence:
    """The words and tags of a record.

    Raises:
        DataError: they are not as many, or a word or tag is none.
    """
    words = [_word_of(word, number, layout, where) for number, word in _numbered(record, layout.words, where)]
    if not layout.tags:
        return words, []
    tags = [label_of(tag, where, layout.tags, of_row=False) for _, tag in _numbered(record, layout.tags, where)]
    if len(words) != len(tags):
        raise DataError(
            f"there are {len(words)} words in {layout.words!r} and {len(tags)} tags in {layout.tags!r}",
            where=where,
            expected="a tag for each word",
        )
    return words, tags


def _numbered(record: dict[str, Any], field: str, where: str) -> enumerate[Any]:
    values = record[field]
    if not isinstance(values, list) or not values:
        raise DataError(f"{field!r} is {shown(values)}", where=where, expected="a list with at least one string")
    return enumerate(values, 1)


def _word_of(word: Any, number: int, layout: Layout, where: str) -> str:
    text = text_of(word, where, layout.words).decode() if isinstance(word, str) else ""
    if not text.strip(" "):
        raise DataError(
            f"word {number} of {layout.words!r} is {shown(word)}", where=where, expected="a string with a character"
        )
    return text


def first_columns(head: bytes, name: str) -> tuple[list[bytes], bool, str]:
    """(columns of the first word of a CoNLL file, whether they are split at tabs, the line's place).

    Raises:
        DataError: there is no word, or the line is a comment.
    """
    lines = head.split(b"\n")
    for number, line in enumerate(lines, 1):
        if not is_blank(line) and not line.startswith(_DOCUMENT_START):
            at_tabs, where = b"\t" in line, f"{name}:{number}"
            if _is_comment(line, lines[number:]):
                raise DataError(
                    f"comments, as in CoNLL-U, are not read: {shown(line.decode(errors='replace'))}",
                    where=where,
                    expected="lines of a word and its tag",
                    fix="keep only the columns of the word, as the first, and of the tag",
                )
            return columns_of(line, at_tabs), at_tabs, where
    raise DataError("there is no word", where=name, expected="lines of a word and its tag")


def _is_comment(line: bytes, following: list[bytes]) -> bool:
    """Whether it begins with # and has not as many columns, split at tabs, as the first line that does not."""
    if not line.startswith((b"# ", b"#\t")):
        return False
    other = next((row for row in following if not row.startswith(b"#")), b"")
    return b"\t" in other and other.count(b"\t") != line.count(b"\t")


def columns_of(line: bytes, at_tabs: bool) -> list[bytes]:
    """The columns of a line of a CoNLL file."""
    if at_tabs:
        return [column.strip() for column in line.translate(TO_SPACE_BUT_TAB).split(b"\t")]
    return line.translate(TO_SPACE).split()


def sentences_of(text: bytes, layout: Layout, first_line: int) -> list[Sentence]:
    """The sentences in whole lines of a CoNLL file, UTF-8.

    Raises:
        DataError: with file and line: another number of columns, an empty word or tag.
    """
    sentences: list[Sentence] = []
    words: list[str] = []
    tags: list[str] = []
    for number, line in enumerate([*text.split(b"\n"), b""], first_line):
        if is_blank(line) or line.startswith(_DOCUMENT_START):
            if words:
                sentences.append((words, tags))
                words, tags = [], []
            continue
        columns = columns_of(line, layout.at_tabs)
        if len(columns) != layout.width:
            raise DataError(
                f"the line has {len(columns)} columns: {shown(line.decode())}",
                where=f"{layout.name}:{number}",
                expected=f"{layout.width}, as in the first line, split at {'tabs' if layout.at_tabs else 'blanks'}",
            )
        if not columns[0] or (layout.tags and not columns[layout.tag_column - 1]):
            raise DataError(
                f"the {'tag' if columns[0] else 'word'} is empty: {shown(line.decode())}",
                where=f"{layout.name}:{number}",
                expected="a word and its tag",
            )
        words.append(columns[0].decode())
        if layout.tags:
            tags.append(columns[layout.tag_column - 1].decode())
    return sentences
