"""Questions whose answers stand in a context, in the forms of SQuAD.

A record has `question`, `context` and, unless it is for prediction only, `answers`: a list of strings with their
character offsets in `answer_start`, Hugging Face's {"text": [...], "answer_start": [...]}, or SQuAD's own list of
{"text": ..., "answer_start": ...}. The nested file of SQuAD is turned into such records. Answers without offsets are
looked for in the context.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Iterator
from typing import Any

from taskmask.errors import DataError
from taskmask.preprocess.fields import shown, text_of
from taskmask.system.json_input import from_json

FIELDS = ("context", "question")
ANSWERS, OFFSETS, IMPOSSIBLE, PLACE = "answers", "answer_start", "is_impossible", "place"
_EXPECTED = 'strings with "answer_start", the character in the context at which each begins'
_FIX = "correct the file, or leave such rows out with --on-bad-answer skip"

Answers = list[tuple[str, int]]  # text, and the character in the context at which it begins


class BadAnswer(DataError):
    """A question without an answer, or an answer that does not stand where it should; such rows can be left out."""


def answers_of(record: dict[str, Any], context: str, where: str) -> Answers:
    """The accepted answers of a record.

    Of answers without offsets, those that stand in the context count, as they are written at their first place there;
    the form of letters and the space between words do not matter for it (`find_answer`).

    Args:
        record: question and answers.
        context: the text in which they stand, control characters made spaces.
        where: the record's place.

    Raises:
        BadAnswer: there is none, or one does not stand in the context at its offset.
        DataError: they have another form.
    """
    texts = _without_offsets(record)
    if texts and not record.get(IMPOSSIBLE):
        return _found([text_of(text, where, ANSWERS).decode() for text in texts], context, where)
    answers = [
        (text_of(text, where, ANSWERS).decode(), _offset_of(offset, where)) for text, offset in _pairs(record, where)
    ]
    if not answers or record.get(IMPOSSIBLE):
        raise BadAnswer(
            "the question has no answer",
            where=where,
            expected="an answer that stands in the context (SQuAD 2.0's impossible questions have none)",
            fix=_FIX,
        )
    for answer, start in answers:
        if not answer.strip(" "):
            raise BadAnswer("an answer is blank", where=where, expected="text that stands in the context", fix=_FIX)
        stands = context[start : start + len(answer)]
        if stands != answer:
            found = context.find(answer)
            place = f"which stands at character {found}" if found >= 0 else "which the context does not have"
            raise BadAnswer(
                f"at character {shown(start, 20)[1:-1]} of the context stands {shown(stands, 60)}",
                where=where,
                expected=f"the answer {shown(answer, 60)}, {place}",
                fix=_FIX,
            )
    return answers


def _found(texts: list[str], context: str, where: str) -> Answers:
    """The answers that stand in the context, each as it is written there; a BadAnswer if none does."""
    places = dict.fromkeys(place for text in texts if (place := find_answer(text, context)))
    if not places:
        raise BadAnswer(
            "no answer stands in the context",
            where=where,
            expected=f"{' or '.join(shown(text, 60) for text in texts[:3])}, since there is no {OFFSETS!r}",
            fix=_FIX,
        )
    return [(context[start:stop], start) for start, stop in places]


_WORD = re.compile(r"\w[\w\u0300-\u036f]*|[^\w\s]")  # a letter's accents belong to its word


def find_answer(answer: str, context: str) -> tuple[int, int] | None:
    """Returns the first place in the context, [start, stop) in characters, where the words of the answer stand.

    Words and marks are compared in NFD and without regard to case; white space between them is not looked at.

    **Source:** Karpukhin et al. 2020 (DPR), `has_answer` of facebookresearch/DPR.
    """
    wanted = [_folded(word) for word in _WORD.findall(answer)]
    if not wanted:
        return None
    spans = [match.span() for match in _WORD.finditer(context)]
    words = [_folded(context[start:stop]) for start, stop in spans]
    size = len(wanted)
    for at, word in enumerate(words):
        if word == wanted[0] and words[at : at + size] == wanted:
            return spans[at][0], spans[at + size - 1][1]
    return None


def _folded(word: str) -> str:
    return unicodedata.normalize("NFD", word.casefold())


def has_answer(record: dict[str, Any]) -> bool:
    """Whether a record has an answer, in any of the three forms: no empty list, and no null."""
    answers = record.get(ANSWERS)
    return bool(answers.get("text") if isinstance(answers, dict) else answers)


def check_no_answers(record: dict[str, Any], where: str) -> None:
    """Raises DataError if a record has answers, in a split whose first has none."""
    if has_answer(record):
        raise DataError(
            "the first question of the split has no answers, this one has",
            where=where,
            expected="answers to all questions, or to none",
            fix="give them answers, or leave out the questions without",
        )


def _without_offsets(record: dict[str, Any]) -> list[Any]:
    """The answers, where they are a list and nothing is said of their places."""
    answers = record[ANSWERS]
    holder = answers if isinstance(answers, dict) else record
    texts = answers.get("text") if isinstance(answers, dict) else answers
    if OFFSETS in holder or not isinstance(texts, list) or any(isinstance(text, dict) for text in texts):
        return []
    return texts


def _pairs(record: dict[str, Any], where: str) -> list[tuple[Any, Any]]:
    """The answers with their offsets, of any of the three forms."""
    answers = record[ANSWERS]
    if not has_answer(record):
        return []
    if isinstance(answers, list) and all(isinstance(answer, dict) for answer in answers):
        return [(answer.get("text"), answer.get(OFFSETS)) for answer in answers]
    if isinstance(answers, dict):
        texts, offsets = answers.get("text"), answers.get(OFFSETS)
    else:
        texts, offsets = answers, record.get(OFFSETS)
    if not isinstance(texts, list) or not isinstance(offsets, list):
        raise DataError(f"{ANSWERS!r} is {shown(answers)}", where=where, expected=f"a list of {_EXPECTED}")
    if len(texts) != len(offsets):
        raise DataError(
            f"there are {len(texts)} answers and {len(offsets)} in {OFFSETS!r}", where=where, expected=_EXPECTED
        )
    return list(zip(texts, offsets, strict=True))


def _offset_of(value: Any, where: str) -> int:
    if type(value) is not int or value < 0:
        raise DataError(
            f"{OFFSETS!r} is {shown(value)}", where=where, expected="a whole number, counting characters from 0"
        )
    return value


def lines_of(text: str, name: str) -> Iterator[bytes]:
    """The nested file of SQuAD as lines of jsonl, each with its place under `PLACE`.

    Args:
        text: the file.
        name: of the file.

    Raises:
        DataError: it is none; names article and paragraph.
    """
    try:
        content = from_json(text)
    except ValueError as error:
        raise DataError(f"the file is not valid JSON: {error}", where=name, fix=_OTHER) from error
    if not isinstance(content, dict) or "data" not in content:
        raise DataError("this is no SQuAD file", where=name, expected='{"data": [{"paragraphs": ...}]}', fix=_OTHER)
    for at, article in enumerate(_list_of(content, "data", name), 1):
        place = f"article {at}"
        if isinstance(article, dict) and isinstance(article.get("title"), str):
            place += f" ({article['title'][:40]})"
        for number, paragraph in enumerate(_list_of(article, "paragraphs", f"{name}, {place}"), 1):
            inside = f"{place}, paragraph {number}"
            for question in _list_of(paragraph, "qas", f"{name}, {inside}"):
                if not isinstance(question, dict) or "question" not in question or "context" not in paragraph:
                    raise DataError(
                        "a question or its context is missing", where=f"{name}, {inside}", expected=_FORM_OF_PARAGRAPH
                    )
                record = {key: question[key] for key in ("question", ANSWERS, IMPOSSIBLE) if key in question}
                record |= {"context": paragraph["context"], PLACE: f"{inside}, question {shown(question['question'])}"}
                yield json.dumps(record).encode() + b"\n"


_OTHER = "if it holds an object a line, give --input-format jsonl"
_FORM_OF_PARAGRAPH = '{"context": ..., "qas": [{"question": ..., "answers": [{"text": ..., "answer_start": ...}]}]}'


def _list_of(value: Any, key: str, where: str) -> list[Any]:
    members = value.get(key) if isinstance(value, dict) else None
    if not isinstance(members, list):
        raise DataError(f"there is no list {key!r}", where=where, expected="SQuAD's articles with paragraphs with qas")
    return members
