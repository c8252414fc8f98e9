"""Small inputs of every format, and the ways to change them: bytes, lines, cells and JSON values."""

import codecs
import copy
import gzip
import json

TEXTS = [
    "The dog sat on the mat.", "Who is in Paris, and why?", 'She said "no" twice', "Äpfel und Übungen, 日本 €5",
    "a second line; with marks | and \\ signs", "numbers 1 2 3", "x", "the end\u2028of it",
]  # fmt: skip
WORDS = ["The", "dog", "sat", "in", "Paris", ".", "Über", "日本", "#", '"']
TAGS = ["O", "B-LOC", "I-LOC", "B-PER"]
PIECES = [
    b"\r", b"\r\n", b"\n", b"\n\n", b"\0", b"\x1a", b"\x0b", b"\x0c", b"\x1c", b"\x85", b"\xc2\x85", b"\xe2\x80\xa8",
    b"\x7f", codecs.BOM_UTF8, codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE, b"\xff", b"\xc3", b"\xed\xa0\x80",
    b"\xed\xb0\x80", b"\xc0\x80", b"\xf5\x80\x80\x80", b'"', b'""', b"'", b"\t", b",", b";", b"\\", b"\\n",
    b"\\u0000", b"\\ud800", b"\\udc00\\ud800", b"{", b"}", b"[", b"]", b"[" * 3000, b'{"a":' * 3000, b"null", b"NaN",
    b"Infinity", b"-1", b"1e999", b"-0", b"9" * 50, b"9" * 5000, b"#", b"# ", b"-DOCSTART- -X- O O\n", b"1-2\t_\n",
    b"1.1\t_\n", b" ", b"\xc2\xa0", b"\xe3\x80\x80", b"\xe2\x80\x8b", b"e\xcc\x81", b"\xef\xbf\xbd",
    b"\xf0\x9f\x98\x80", b"A" * 3000, b"<s>", b"</s>", b"<mask>", b"<extra_id_0>",
]  # fmt: skip
VALUES = [
    None, True, False, 0, -1, 7, 10**40, 10**400, 1 << 63, 1.5, -0.0, 1e308, 1e-320, float("nan"), float("inf"),
    float("-inf"), "", " ", "\0", "\n", "a\nb", "\ud800", "\udc00\ud800", "\u2028", "\ufeff", "NaN", "nan", "-100",
    "-1", "?", "_", "1", "1.0", "O", "B-LOC", "x" * 3000, "the dog", [], [[]], [None], [""], ["the dog"], [1],
    ["a", ["b"]], {}, {"a": 1}, {"text": "The dog"}, {"text": ["The dog"], "answer_start": [0]},
    [{"text": "The dog", "answer_start": 0}], [0], [-1], [10**20], [1.0], [True], ["0"],
]  # fmt: skip


def _text_records():
    """Records with texts, a label, a number and a list."""
    return [
        {"text": text, "second": TEXTS[-1 - at], "label": "ab"[at % 2], "score": at / 2, "names": TEXTS[:at % 3]}
        for at, text in enumerate(TEXTS)
    ]  # fmt: skip


TEXTED = _text_records()


def _tag_records():
    """Records of words with tags."""
    return [
        {"words": WORDS[at : at + 4], "tags": [TAGS[(at + word) % 4] for word in range(len(WORDS[at : at + 4]))]}
        for at in range(7)
    ]


TAGGED = _tag_records()


def _qa_records():
    """Questions with their answers, in each of the forms."""
    context = "The dog sat in Paris. 日本 is far, said the dog."
    found = [("Who sat?", "The dog"), ("Where?", "Paris"), ("What is far?", "日本"), ("Who?", "the dog")]
    records = [{"question": q, "context": context, "answers": [a], "answer_start": [context.find(a)]} for q, a in found]
    for record in records[2:]:
        record["answers"] = {"text": record["answers"], "answer_start": record.pop("answer_start")}
    records[1].pop("answer_start")
    return records


ASKED = _qa_records()


def _squad_tree():
    """SQuAD's nested file."""
    context = "The dog sat in Paris. 日本 is far."
    answers = [("Who sat?", "The dog"), ("Where?", "Paris"), ("What?", "日本")]
    questions = [
        {"question": q, "id": q, "answers": [{"text": a, "answer_start": context.find(a)}]} for q, a in answers
    ]
    return {
        "version": "1.1",
        "data": [
            {"title": "dogs", "paragraphs": [{"context": context, "qas": questions[:2]}]},
            {"title": "far", "paragraphs": [{"context": context, "qas": questions[2:]}]},
        ],
    }


SQUAD = _squad_tree()


def _table_rows():
    """A header and rows of a table."""
    rows = [[text, "ab"[at % 2], str(at / 2), TEXTS[-1 - at]] for at, text in enumerate(TEXTS)]
    return [["text", "label", "score", "second"], *rows]


TABLE = _table_rows()


def txt(texts, random=None):
    """Lines of text; what is no text any more is written as JSON, blank lines stand between some."""
    lines = [text if isinstance(text, str) else json.dumps(text) for text in texts]
    return "\n".join([*lines[:3], "", *lines[3:]]).encode("utf-8", "surrogatepass")


def tsv(rows, random=None):
    """A plain tsv file."""
    return "\n".join("\t".join(row) for row in rows).encode("utf-8", "surrogatepass") + b"\n"


def quoted(rows, mark, random=None):
    """A table whose fields stand in quotation marks where they must."""

    def cell(text):
        return '"' + text.replace('"', '""') + '"' if any(one in text for one in (mark, '"', "\n", "\r")) else text

    return "\n".join(mark.join(map(cell, row)) for row in rows).encode("utf-8", "surrogatepass") + b"\n"


def _conll_rows():
    """Words with tags in two columns; an empty row ends a sentence."""
    return [row for one in TAGGED for row in [*zip(one["words"], one["tags"], strict=True), ()]]


CONLL = _conll_rows()


def _conllu_rows():
    """The ten columns of CoNLL-U, with a comment, a range and an empty node."""
    rows = [("# sent_id = 1",), ("1-2", "Thedog", *"________"), ("1.1", "ghost", *"________")]
    for sentence in ("The dog sat", "Über Paris", "x"):
        words = sentence.split()
        rows += [(str(n), w, w, "NOUN" if n % 2 else "VERB", *"______") for n, w in enumerate(words, 1)] + [()]
    return rows


CONLLU = _conllu_rows()


def changed_bytes(random, content):
    """The content with some bytes changed."""
    for _ in range(random.choice((1, 1, 1, 2, 4))):
        at, size = random.randrange(len(content) + 1), random.choice((1, 1, 2, 5, 30))
        how = random.randrange(8)
        if how == 0 and content:
            at = min(at, len(content) - 1)
            content = content[:at] + bytes([content[at] ^ 1 << random.randrange(8)]) + content[at + 1 :]
        elif how == 1:
            content = content[:at] + content[at + size :]
        elif how == 2:
            content = content[:at]
        elif how == 3:
            content = content[:at] + content[at : at + size] * 2 + content[at + size :]
        elif how == 4:
            content = content[:at] + random.randbytes(size) + content[at:]
        else:
            piece = random.choice(PIECES)
            content = content[:at] + piece + content[at + (size if how == 5 else 0) :]
    return content


def changed_file(random, content):
    """The content with something changed that concerns all of it."""
    how = random.randrange(9)
    text = content.decode("utf-8", "surrogateescape")
    if how < 5:
        encoding = ("utf-16", "utf-16-le", "utf-16-be", "utf-32", "latin-1")[how]
        return text.encode(encoding, "surrogatepass" if how < 4 else "replace")
    if how == 5:
        return content.replace(b"\n", random.choice((b"\r\n", b"\r", b"\n\r", b"\n\n", b"\0\n", b"\x0b\n", b"")))
    if how == 6:
        return random.choice((codecs.BOM_UTF8, codecs.BOM_UTF8 * 2, b"\n", b"\r\n", b"\0", b" ", b"\x1f\x8b")) + content
    if how == 7:
        return content + random.choice(
            (b"\0" * 9, b"\x1a", b"\xff", b"\n" * 9, b"\xc3", b'"', codecs.BOM_UTF8, content)
        )
    lines = content.split(b"\n")
    random.shuffle(lines)
    return b"\n".join(lines)


def places(tree, path=()):
    """The paths of all parts of nested objects and lists."""
    for key, value in tree.items() if isinstance(tree, dict) else enumerate(tree):
        yield (*path, key)
        if isinstance(value, dict | list):
            yield from places(value, (*path, key))


def changed_tree(random, tree):
    """A copy of a JSON value with some parts replaced, left out, renamed, doubled, or exchanged."""
    tree = copy.deepcopy(tree)
    for _ in range(random.choice((1, 1, 2, 3))):
        found = list(places(tree))
        path, other = random.choice(found), random.choice(found)
        inner, from_other = tree, tree
        for key in path[:-1]:
            inner = inner[key]
        for key in other:
            from_other = from_other[key]
        how = random.randrange(8)
        if how < 4:
            inner[path[-1]] = copy.deepcopy(random.choice(VALUES))
        elif how == 4:
            inner[path[-1]] = copy.deepcopy(from_other)
        elif how == 5:
            del inner[path[-1]]
        elif isinstance(inner, list):
            inner.insert(path[-1], copy.deepcopy(random.choice([inner[path[-1]], *VALUES])))
        else:
            key = random.choice(["text", "label", "words", "context", "extra", "", "x" * 200, "answer_start"])
            inner[key] = copy.deepcopy(inner[path[-1]])
    return tree


def dumped(tree, random=None):
    """A JSON value as bytes; with `random`, now and then without escapes or with a key that stands there twice."""
    content = json.dumps(tree, ensure_ascii=random is None or random.random() < 0.5).encode("utf-8", "surrogatepass")
    if random and random.random() < 0.05 and content.startswith(b'{"'):
        key = content[1 : content.index(b":")]
        content = content[:-1] + b", " + key + b": " + json.dumps(random.choice(VALUES)).encode() + b"}"
    return content


def jsonl(records, random=None):
    """Lines of JSON."""
    return b"".join(dumped(record, random) + b"\n" for record in records)


CELLS = [str(value) for value in VALUES if isinstance(value, str | int | float)] + [
    "a\tb",
    "a,b",
    "a;b",
    '"',
    '"a"',
    '"a',
    'a"b',
]


def changed_cells(random, rows):
    """A copy of rows of cells with some replaced, left out, doubled or exchanged."""
    rows = [list(row) for row in rows]
    for _ in range(random.choice((1, 1, 2, 4))):
        row = random.choice(rows[:1] if random.random() < 0.2 else rows)
        if not row:
            row.append("")
        at, how = random.randrange(len(row)), random.randrange(6)
        if how < 3:
            row[at] = random.choice(CELLS)
        elif how == 3:
            row.insert(at, random.choice([row[at], *CELLS]))
        elif how == 4:
            del row[at]
        else:
            row[at], row[0] = row[0], row[at]
    return rows


def zipped(random, content):
    """A gzip file of the content, now and then damaged."""
    content = gzip.compress(content, 1, mtime=0)
    return changed_bytes(random, content) if random.random() < 0.7 else content
