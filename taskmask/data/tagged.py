"""Tagged sentences: words with a tag each, as lists in a record of jsonl. For CoNLL files see `taskmask.data.conll`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from taskmask.data.missing import NONE
from taskmask.data.values import label_of, shown, text_of
from taskmask.errors import DataError

if TYPE_CHECKING:
    from taskmask.data.layout import Layout

Sentence = tuple[list[str], list[str]]  # words, and their tags or none


def sentence_of(record: dict[str, Any], layout: Layout, where: str) -> Sentence:
    """The words and tags of a record.

    Raises:
        DataError: they are not as many, or a word is none.
    """
    words = [_word_of(word, number, layout, where) for number, word in _numbered(record, layout.words, where)]
    if not layout.tags:
        return words, []
    if record[layout.tags] is None:
        return words, [NONE] * len(words)
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
