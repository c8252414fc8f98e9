"""Tagged sentences: words with a tag each, as lists in a record of jsonl; for CoNLL see `taskmask.preprocess.conll`."""

from __future__ import annotations

from typing import Any

from taskmask.errors import DataError
from taskmask.preprocess.fields import label_of, shown, text_of
from taskmask.preprocess.missing import NONE

Sentence = tuple[list[str], list[str]]  # words, and their tags or none


def sentence_of(record: dict[str, Any], words_field: str, tags_field: str, where: str) -> Sentence:
    """Returns the words of a record and their tags, from two of its fields; without a second one, no tags.

    Raises:
        DataError: they are not as many, or a word is none.
    """
    words = [_word_of(word, number, words_field, where) for number, word in _numbered(record, words_field, where)]
    if not tags_field:
        return words, []
    if record[tags_field] is None:
        return words, [NONE] * len(words)
    tags = [label_of(tag, where, tags_field, of_row=False) for _, tag in _numbered(record, tags_field, where)]
    if len(words) != len(tags):
        raise DataError(
            f"there are {len(words)} words in {words_field!r} and {len(tags)} tags in {tags_field!r}",
            where=where,
            expected="a tag for each word",
        )
    return words, tags


def _numbered(record: dict[str, Any], field: str, where: str) -> enumerate[Any]:
    values = record[field]
    if not isinstance(values, list) or not values:
        raise DataError(f"{field!r} is {shown(values)}", where=where, expected="a list with at least one string")
    return enumerate(values, 1)


def _word_of(word: Any, number: int, words_field: str, where: str) -> str:
    text = text_of(word, where, words_field).decode() if isinstance(word, str) else ""
    if not text.strip(" "):
        raise DataError(
            f"word {number} of {words_field!r} is {shown(word)}", where=where, expected="a string with a character"
        )
    return text
