"""What small input files hold, read slowly and independently with `json` and `csv`: column -> the value of each row.

Texts are strings, labels names or None, numbers floats or None, lists of texts lists. `Unreadable` is raised for files
that must be refused. What a reader cannot judge simply, it leaves out of its answer.
"""

import csv
import io
import json
import math
import re

CONTROLS = re.compile("[\x00-\x1f\x7f]")


class Unreadable(Exception):
    """The file must be refused."""


class Unjudged(Exception):
    """What the file holds is not simple to say."""


def need(condition, what):
    if not condition:
        raise Unreadable(what)


def clean(text):
    return CONTROLS.sub(" ", text)


def is_blank(text):
    """Whether there are only blanks of ASCII."""
    return not clean(text).strip(" ")


def text_in(content):
    try:
        return content.removeprefix(b"\xef\xbb\xbf").decode()
    except UnicodeDecodeError as error:
        raise Unreadable("UTF-8") from error


def lines_in(content):
    """The lines; a carriage return before a line feed is dropped."""
    return text_in(content).replace("\r\n", "\n").removesuffix("\n").split("\n")


def an_object(pairs):
    need(len(dict(pairs)) == len(pairs), "a key twice")
    return dict(pairs)


def loaded(text):
    try:
        return json.loads(text, object_pairs_hook=an_object)
    except (ValueError, RecursionError) as error:
        raise Unreadable("JSON") from error


def records_in(content):
    for line in lines_in(content):
        if not is_blank(line):
            record = loaded(line.removeprefix("\ufeff"))
            need(isinstance(record, dict), "no object")
            yield record


def as_text(value):
    need(isinstance(value, str), "no string")
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise Unreadable("surrogate") from error
    return clean(value)


def as_label(value):
    if value is None or value != value:
        return ""
    need(isinstance(value, str | int), "no label")
    return as_text(value if isinstance(value, str) else json.dumps(value))


def as_number(value, in_table=False):
    """The number; None if there is none."""
    if value is None:
        return None
    if isinstance(value, str):
        value = value.strip() if in_table else value
        if value.lower() in ("", "nan"):
            return None
        need(in_table and "_" not in value, "a string")
    need(not isinstance(value, bool) and isinstance(value, int | float | str), "no number")
    try:
        number = float(value)
    except (ValueError, OverflowError) as error:
        raise Unreadable("number") from error
    if math.isnan(number):
        return None
    need(abs(number) <= 3.4028234e38, "too large")
    return number


def as_list(value):
    if value is None or value in ("", []):
        return []
    texts = [as_text(one) for one in (value if isinstance(value, list) else [value])]
    need(texts and not any(map(is_blank, texts)), "a blank text")
    return texts


def field(record, name):
    need(name in record, f"no {name}")
    return record[name]


def read_jsonl(content):
    """Records with text, second, label, score and names."""
    readers = {"text": as_text, "second": as_text, "label": as_label, "score": as_number, "names": as_list}
    records = list(records_in(content))
    need(records, "no row")
    return {name: [reader(field(record, name)) for record in records] for name, reader in readers.items()}


def read_tags(content):
    """Records with words and tags."""
    found = {"sentences": [], "tags": []}
    for record in records_in(content):
        words, tags = field(record, "words"), field(record, "tags")
        need(isinstance(words, list) and words, "no words")
        words = [as_text(word) for word in words]
        need(not any(word.strip(" ") == "" for word in words), "a blank word")
        need(tags is None or (isinstance(tags, list) and len(tags) == len(words)), "other tags")
        found["sentences"].append(words)
        found["tags"].append([""] * len(words) if tags is None else [as_label(tag) for tag in tags])
    need(found["sentences"], "no row")
    return found


def answers_in(record, context):
    """[(text, offset or None)] of a record; [] if there is none or one is not in its place."""
    answers, offsets = field(record, "answers"), record.get("answer_start")
    has_offsets = "answer_start" in record
    if isinstance(answers, dict):
        has_offsets = "answer_start" in answers
        answers, offsets = answers.get("text"), answers.get("answer_start")
    elif isinstance(answers, list) and answers and all(isinstance(one, dict) for one in answers):
        has_offsets = True
        offsets, answers = [one.get("answer_start") for one in answers], [one.get("text") for one in answers]
    if not answers or record.get("is_impossible"):
        return []
    need(isinstance(answers, list), "no list of answers")
    texts = [as_text(one) for one in answers]
    if not has_offsets:
        if not any(re.search(rf"(?<!\w){re.escape(text)}(?!\w)", context) for text in texts if text.strip(" ")):
            raise Unjudged
        return [(text, None) for text in texts]
    need(isinstance(offsets, list) and len(offsets) == len(texts), "other offsets")
    need(all(type(one) is int and one >= 0 for one in offsets), "no offset")
    pairs = list(zip(texts, offsets, strict=True))
    right = all(text.strip(" ") and context[at : at + len(text)] == text for text, at in pairs)
    return pairs if right else []


def read_questions(records, skip):
    """Questions, contexts and answers; with `skip`, those without a good answer are left out."""
    found = {"context": [], "question": [], "answers": []}
    for record in records:
        context, question = as_text(field(record, "context")), as_text(field(record, "question"))
        answers = answers_in(record, context)
        if not answers and skip:
            continue
        need(answers, "no good answer")
        for name, value in zip(found, (context, question, answers), strict=True):
            found[name].append(value)
    return found


def read_qa(content, skip=False):
    """Lines of questions."""
    return read_questions(records_in(content), skip)


def read_squad(content, skip=False):
    """SQuAD's nested file."""
    tree = loaded(text_in(content))
    records = []
    need(isinstance(tree, dict) and isinstance(tree.get("data"), list), "no data")
    for article in tree["data"]:
        need(isinstance(article, dict) and isinstance(article.get("paragraphs"), list), "no paragraphs")
        for paragraph in article["paragraphs"]:
            need(isinstance(paragraph, dict) and isinstance(paragraph.get("qas"), list), "no qas")
            for question in paragraph["qas"]:
                need(isinstance(question, dict) and "context" in paragraph, "no question")
                records.append({**question, "context": paragraph["context"]})
                records[-1].pop("answer_start", None)
    return read_questions(records, skip)


def read_txt(content, blank=False):
    """Texts, a line each, and the number of the document of each."""
    texts, documents, document, is_open = [], [], 0, False
    for line in map(clean, lines_in(content)):
        if line.strip(" "):
            texts.append(line)
            documents.append(document)
            is_open = True
            document, is_open = (document, True) if blank else (document + 1, False)
        elif is_open:
            document, is_open = document + 1, False
    need(texts, "no row")
    return {"text": texts, "document": documents}


def read_table(rows):
    """Rows of cells, the first of which name the columns text, label, score and second."""
    rows = [row for row in rows if row]
    while rows and not any(cell.strip() for cell in map(clean, rows[0])):
        rows.pop(0)
    need(rows, "no header")
    names, *rows = rows
    names = [name.strip() for name in names]
    readers = {"text": clean, "second": clean, "label": clean, "score": lambda one: as_number(clean(one), True)}
    need(all(names.count(name) == 1 for name in readers), "no such column")
    need(rows and all(len(row) == len(names) for row in rows), "no row, or a ragged one")
    return {name: [reader(row[names.index(name)]) for row in rows] for name, reader in readers.items()}


def read_tsv(content):
    """A plain tsv file."""
    return read_table([line.split("\t") if line else [] for line in lines_in(content)])


def read_quoted(content, mark):
    """A table whose fields may stand in quotation marks."""
    text = text_in(content).replace("\r\n", "\n").removesuffix("\r").replace("\r", " ").replace("\0", " ")
    try:
        return read_table(list(csv.reader(io.StringIO(text, newline="\n"), delimiter=mark, strict=True)))
    except csv.Error as error:
        raise Unreadable("marks") from error


def read_conll(content):
    """Words and tags in two columns, unless there are comments, counted words or marks of documents."""
    lines = [CONTROLS.sub(lambda found: found[0] if found[0] == "\t" else " ", line) for line in lines_in(content)]
    full = [line for line in lines if line.strip(" \t")]
    need(full, "no word")
    if any(line.startswith(("#", "-DOCSTART-")) for line in full):
        raise Unjudged
    at_tabs = 2 * sum("\t" in line.rstrip(" \t") for line in full) >= len(full)
    found, width = {"sentences": [], "tags": []}, 0
    is_open = False
    for line in lines:
        if not line.strip(" \t"):
            is_open = False
            continue
        cells = [cell.strip(" ") for cell in line.split("\t")] if at_tabs else re.split(r"[ \t]+", line.strip(" \t"))
        while len(cells) > max(width, 1) and not cells[-1]:
            cells.pop()
        width = width or len(cells)
        if cells[0].isdigit():
            raise Unjudged
        need(len(cells) == width > 1 and cells[0], "another width")
        if not is_open:
            found["sentences"].append([])
            found["tags"].append([])
        is_open = True
        found["sentences"][-1].append(cells[0])
        found["tags"][-1].append(cells[-1])
    return found


def read_nothing(content):
    """Says nothing: the law is that what is accepted opens and is in range."""
    raise Unjudged
