"""What input files hold: as asked for (`Fields`), and as found in a file (`Layout`)."""

from __future__ import annotations

from dataclasses import dataclass

from taskmask.preprocess import squad
from taskmask.preprocess.conll import Columns

TEXT, WORDS, LABEL, TAGS = "text", "words", "label", "tags"  # names of fields, unless others are given


@dataclass(frozen=True)
class Fields:
    """Which fields to take; what is None, or an empty form, is found out from the files.

    Attributes:
        text: fields that hold text; None: `text`.
        label: fields that hold labels; None: `label`, where the first file of a split has it.
        number: fields that hold numbers.
        lists: fields that hold lists of texts.
        words: field that holds a list of words; None: `words`.
        tags: field that holds their tags, and name of the column; None: `tags`, where the first file of a split has it.
        word_column: column with the words in a CoNLL file, from 1, or its name; 0: found out.
        tag_column: column with the tags in a CoNLL file, from 1, or its name; 0: found out.
        conll: the columns of the first CoNLL file.
        form: "text", "tags" (tagged sentences) or "answers" (questions with answers in a context); of all files.
        has_answers: questions have answers; None: if the first of a split has.
        on_bad_answer: what is done with a bad or missing answer: "stop" or "skip".
        missing: marks that mean that there is no label or number; None: they are found out.
        optional: a file without the fields of labels, numbers, lists and tags has none; else it is an error.
        quoted: fields of tsv files may stand in quotation marks, as those of csv files do.
        delimiter: between the fields of csv files, one character; None: a comma.
    """

    text: tuple[str, ...] | None = None
    label: tuple[str, ...] | None = None
    number: tuple[str, ...] = ()
    lists: tuple[str, ...] = ()
    words: str | None = None
    tags: str | None = None
    word_column: int | str = 0
    tag_column: int | str = 0
    conll: Columns | None = None
    form: str = ""
    has_answers: bool | None = None
    on_bad_answer: str = "stop"
    missing: tuple[str, ...] | None = None
    optional: bool = False
    quoted: bool = False
    delimiter: str | None = None

    @property
    def asked_form(self) -> str:
        """The form that the other attributes ask for; empty if none does."""
        of_tags = self.words or self.tags or self.word_column or self.tag_column
        return self.form or ("tags" if of_tags else "text" if self.text else "")


@dataclass(frozen=True)
class Layout:
    """How the lines of a file are parsed.

    Attributes:
        name: of the file, for messages.
        format: "txt", "tsv", "csv", "jsonl", "conll" or "squad" (as lines of jsonl, of `squad.lines_of`).
        form: "text", "tags" or "answers".
        text: fields that hold text; the first becomes the column `tokens`.
        label: fields that hold labels.
        number: fields that hold numbers.
        lists: fields that hold lists of texts.
        columns: names in the header of a table (tsv or csv); none in other files.
        header: number of the line in which that header ends.
        delimiter: between the fields of a table.
        quoted: whether fields of a table may stand in quotation marks.
        documents: "line" or "blank", for txt.
        words: field that holds a list of words, for form "tags".
        tags: field that holds their tags, and name of the column; "" where there are none.
        conll: the columns of a CoNLL file.
        has_answers: for form "answers"; without, the questions are for prediction only.
        on_bad_answer: "stop" or "skip".
        missing: marks that mean that there is no label or number; None: they are found out.
    """

    name: str
    format: str
    form: str = "text"
    text: tuple[str, ...] = ()
    label: tuple[str, ...] = ()
    number: tuple[str, ...] = ()
    lists: tuple[str, ...] = ()
    columns: tuple[str, ...] = ()
    header: int = 0
    delimiter: str = "\t"
    quoted: bool = False
    documents: str = "line"
    words: str = ""
    tags: str = ""
    conll: Columns | None = None
    has_answers: bool = False
    on_bad_answer: str = "stop"
    missing: tuple[str, ...] | None = None

    @property
    def fields(self) -> list[str]:
        """All fields that a record must have."""
        answers = [squad.ANSWERS] if self.has_answers else []
        return [*self.text, *self.label, *self.number, *self.lists, *filter(None, (self.words, self.tags)), *answers]

    @property
    def label_columns(self) -> list[str]:
        """The columns of labels, of rows and of words."""
        return [*self.label, *([self.tags] if self.tags else [])]
