"""Columns of spans: a tagger's, exactly on its tokens or refused with the place; and the heuristic's."""

import json

import numpy as np
import pytest
from encode_help import Maker, content_of, rows_of

from taskmask.data.add_column import ColumnsWriter
from taskmask.data.dataset import Dataset
from taskmask.data.in_memory import MemorySplit
from taskmask.errors import DataError
from taskmask.span_columns.heuristic import Salient
from taskmask.span_columns.tagger_file import SpanFile
from taskmask.span_columns.words import stretches
from taskmask.span_columns.write import MOST, found_by, write_spans
from taskmask.tokenizer.tokenizer import Vocabulary, train_vocabulary

TEXTS = ["The dog, unreasonably often.", "", "naïve 我爱 café 25", "the fox"]
LINES = "".join(json.dumps({"text": text}) + "\n" for text in TEXTS)


def written(folder, name, spans, overwrite=False):
    """Writes spans as a column of train."""
    with ColumnsWriter(Dataset.open(folder), ["train"], [name], overwrite) as writer:
        return write_spans(writer, "train", name, spans)


@pytest.fixture
def dataset(tmp_path, vocabulary):
    return Maker(tmp_path, vocabulary)({"train.jsonl": LINES})


@pytest.fixture
def tagged(tmp_path, dataset, vocabulary):
    """Writes a column of spans, a list a text; returns the text of each, a list a row, and the file."""

    def make(spans, texts=TEXTS, raw=None):
        path = tmp_path / "tags.jsonl"
        if raw is None:
            records = [{"text": text, "spans": some} for text, some in zip(texts, spans, strict=True)]
            raw = "".join(json.dumps(record) + "\n" for record in records).encode()
        path.write_bytes(raw)
        file = SpanFile(path, vocabulary)
        make.found = written(tmp_path / "out", "spans", file.spans, overwrite=True)
        return shown(Dataset.open(tmp_path / "out"), vocabulary), file

    return make


def shown(dataset, vocabulary):
    found = []
    for tokens, numbers in zip(rows_of(dataset, "tokens"), rows_of(dataset, "spans"), strict=True):
        order = [number for number in dict.fromkeys(numbers.tolist()) if number]
        assert all(np.ptp(np.flatnonzero(numbers == number)) == (numbers == number).sum() - 1 for number in order)
        assert numbers[-1] == 0  # </s>
        found.append([vocabulary.decode(tokens[numbers == number]) for number in order])
    return found


def test_spans_stand_on_their_tokens(tagged, tmp_path):
    places = [[[4, 7], {"start": 22, "end": 27, "text": "often"}], [], [[14, 16], [9, 13]], [[0, 3]]]
    found, file = tagged(places)
    assert found == [["dog", "often"], [], ["café", "25"], ["the"]] and file.overlaps == file.lost == 0
    dataset = Dataset.open(tmp_path / "out")
    column = dataset.split("train").column("spans")
    assert (column.kind, column.of, column.dtype) == ("aligned", "tokens", "uint16")
    assert [sorted(set(row.tolist()) - {0}) for row in rows_of(dataset, "spans")] == [[1, 2], [], [3, 4], [5]]
    written = tagged.found
    assert (written.rows, written.rows_with, written.spans) == (4, 3, 5)
    assert written.examples == ["dog", "often", "café", "25", "the"]
    dataset.verify()


def test_a_span_covers_every_token_that_it_touches(tagged):
    found, _ = tagged([[[5, 6]], [], [[6, 8]], []])
    assert "o" in found[0][0] and found[0][0] in "dog"
    assert set("我爱") <= set(found[2][0]) | set("爱") and found[2][0].startswith("我")


def test_of_overlapping_spans_the_longest_counts(tagged):
    found, file = tagged([[[4, 7], [0, 7], [5, 9]], [], [], []])
    assert found[0] == ["The dog"] and file.overlaps == 2


def test_two_spans_within_one_token(tagged, vocabulary):
    (_, starts, ends) = vocabulary.encode_with_offsets([TEXTS[0]])[0]
    wide = int(np.argmax(ends - starts))
    first = int(starts[wide])
    found, file = tagged([[[first, first + 1], [first + 1, first + 2]], [], [], []])
    assert len(found[0]) == 1 and file.lost == 1


def test_blank_lines_count_for_nothing(tagged):
    lines = [json.dumps({"text": text, "spans": []}) for text in TEXTS]
    assert tagged(None, raw="\n\n".join(lines).encode())[0] == [[]] * 4


GOOD = {"text": TEXTS[0], "spans": []}


@pytest.mark.parametrize(
    ("first", "message"),
    [
        ("{", r"tags\.jsonl:1: the line is not valid JSON"),
        ("[]", r"tags\.jsonl:1: the line is a JSON list"),
        ({"text": TEXTS[0]}, r"tags\.jsonl:1: there is no field 'spans'; expected one of text"),
        ({"text": 3, "spans": []}, r"tags\.jsonl:1: 'text' is '3'; expected a string"),
        (GOOD | {"spans": 3}, r"tags\.jsonl:1: 'spans' is '3'; expected a list"),
        (GOOD | {"spans": [[4, 4]]}, r"the span '\[4, 4\]' is none; expected \[start, end\].*end <= 28"),
        (GOOD | {"spans": [[-1, 4]]}, "is none"),
        (GOOD | {"spans": [[0, 29]]}, "is none"),
        (GOOD | {"spans": [[0, 4, 5]]}, "is none"),
        (GOOD | {"spans": [[0, 1.5]]}, "is none"),
        (GOOD | {"spans": [[False, True]]}, "is none"),
        (GOOD | {"spans": [{"start": 0}]}, "is none"),
        (GOOD | {"spans": [{"start": 4, "end": 7, "text": "cat"}]}, r"'dog' stands at 4 to 7; expected 'cat'.*UTF-16"),
        ({"text": "The fox", "spans": []}, r"jsonl:1: the text is not that of row 0 of.*; expected \S*d\S*, as the"),
    ],
)  # fmt: skip
def test_a_damaged_line_is_named_and_the_dataset_is_as_it_was(tagged, tmp_path, first, message):
    before = content_of(tmp_path / "out")
    rest = [json.dumps({"text": text, "spans": []}) for text in TEXTS[1:]]
    line = first if isinstance(first, str) else json.dumps(first)
    with pytest.raises(DataError, match=message):
        tagged(None, raw="\n".join([line, *rest]).encode())
    assert content_of(tmp_path / "out") == before


@pytest.mark.parametrize(
    ("texts", "message"),
    [(TEXTS[:-1], r"tags\.jsonl: ends after 3 lines; expected 4, one for each row of split 'train'"),
     ([*TEXTS, "dog"], r"tags\.jsonl:5: is a line more than split 'train' has rows; expected 4 lines"),
     (TEXTS[::-1], r"tags\.jsonl:1: the text is not that of row 0")],
)  # fmt: skip
def test_the_wrong_number_or_order_of_lines(tagged, tmp_path, texts, message):
    before = content_of(tmp_path / "out")
    with pytest.raises(DataError, match=message):
        tagged([[]] * len(texts), texts)
    assert content_of(tmp_path / "out") == before


MARKS = [
    ({"answer": "reject"}, "answer reject"),
    ({"answer": "ignore"}, "answer ignore"),
    ({"status": "Discarded"}, "status discarded"),
    ({"was_cancelled": True}, "was_cancelled"),
    ({"skipped": True}, "skipped"),
]


@pytest.mark.parametrize(("mark", "name"), MARKS)
def test_what_an_annotator_rejected_or_skipped_is_left_out(mark, name, tagged):
    """A line stands for its row still; a span may be marked alone."""
    records = [
        {"text": TEXTS[0], "spans": [[4, 7], {"start": 22, "end": 27}], **mark},
        {"text": TEXTS[1], **mark},
        {"text": TEXTS[2], "spans": [{"start": 14, "end": 16, **mark}, [9, 13]], "answer": "accept"},
        {"text": TEXTS[3], "spans": [[0, 3]], "answer": "accept", "was_cancelled": False, "status": "submitted"},
    ]
    found, file = tagged(None, raw="".join(json.dumps(record) + "\n" for record in records).encode())
    assert found == [[], [], ["café"], ["the"]]
    assert dict(file.lines_aside) == {name: 2} and dict(file.spans_aside) == {name: 3}


@pytest.mark.parametrize("mark", [{"answer": "Paris"}, {"answer": ["reject"]}, {"was_cancelled": 1}, {"skipped": "no"}])
def test_other_values_mark_nothing(mark, tagged):
    records = [{"text": text, "spans": [[0, 3]] if text else [], **mark} for text in TEXTS]
    found, file = tagged(None, raw="".join(json.dumps(record) + "\n" for record in records).encode())
    assert [len(row) for row in found] == [1, 0, 1, 1]
    assert not file.lines_aside and not file.spans_aside


def test_a_rejected_line_is_still_that_of_its_row(tagged):
    records = [{"text": "another text", "answer": "reject"}, *({"text": text, "spans": []} for text in TEXTS[1:])]
    with pytest.raises(DataError, match=r"tags\.jsonl:1: the text is not that of row 0"):
        tagged(None, raw="".join(json.dumps(record) + "\n" for record in records).encode())


def test_bytes_that_are_no_text_and_a_file_that_is_not_there(tagged, tmp_path, vocabulary):
    with pytest.raises(DataError, match=r"tags\.jsonl:1:10: byte 0xff is not UTF-8"):
        tagged(None, raw=b'{"text":"\xff"}\n')
    file = SpanFile(tmp_path / "none.jsonl", vocabulary)
    with pytest.raises(DataError, match=r"none\.jsonl: cannot be read: No such file"):
        written(tmp_path / "out", "other", file.spans)


def test_rows_of_a_document_have_their_own_lines_and_neighbours_differ(tmp_path, vocabulary):
    """Rows of one document stand side by side in a block; a span at the border is not that of the next row."""
    Maker(tmp_path, vocabulary)({"train.txt": "the fox\nthe dog\n\nfox\n"}, documents="blank")
    path = tmp_path / "tags.jsonl"
    path.write_text(
        "".join(json.dumps({"text": t, "spans": [[0, len(t)]]}) + "\n" for t in ("the fox", "the dog", "fox"))
    )
    written(tmp_path / "out", "spans", SpanFile(path, vocabulary).spans)
    numbers = [sorted(set(row.tolist())) for row in rows_of(Dataset.open(tmp_path / "out"), "spans")]
    assert numbers == [[1], [0, 2], [0, 3]]  # the last row of a document ends with </s>


def test_an_interrupted_write_leaves_the_dataset_as_it_was(dataset, tmp_path, vocabulary):
    before = content_of(tmp_path / "out")

    def breaks(split):
        yield from found_by(Salient(vocabulary), split)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        written(tmp_path / "out", "spans", breaks)
    assert content_of(tmp_path / "out") == before
    with pytest.raises(DataError, match="column 'tokens' exists"):
        written(tmp_path / "out", "tokens", breaks, overwrite=True)


def test_numbers_begin_anew_after_the_highest(dataset, tmp_path, monkeypatch):
    monkeypatch.setattr("taskmask.span_columns.write.MOST", 3)
    assert MOST == 65535

    def every_token(stretch):
        places = np.arange(len(stretch.tokens))
        return places, places + 1

    written(tmp_path / "out", "spans", lambda split: found_by(every_token, split))
    values = np.asarray(Dataset.open(tmp_path / "out").split("train").values("spans"))
    assert np.array_equal(values, np.arange(len(values)) % 3 + 1)


# ---- the heuristic

SENTENCES = {
    "Ada met Charles Babbage in London.": ["Charles Babbage", "London"],
    "In Paris he wrote to Mary Shelley.": ["Paris", "Mary Shelley"],
    "Dogs bark. Cats purr. He saw Rome.": ["Rome"],
    "New York grew. The Hague did not.": ["New York", "Hague"],
    "He said: \"Nobody came.\" (Everybody left).": [],
    "On 12 March 1998 and March 12, 1998, in March 1998 and in 1998":
        ["12 March 1998", "March 12, 1998", "March 1998", "1998"],
    "It cost 1,000,000 or 3.14 at 10:30 since the 1990s.": ["1,000,000", "3.14", "10:30", "1990s"],
    "It has 12 Monkeys, 20 cats, and I am the 3rd": ["12", "Monkeys", "20", "3rd"],
    "They know J. R. R. Tolkien and Mr. Smith. Dogs bark": ["J. R. R. Tolkien", "Mr. Smith"],
    "the Jean-Paul of O'Brien and U.S.": ["Jean-Paul", "O'Brien", "U.S"],
    "no names here": [],
    "": [],
}  # fmt: skip


@pytest.fixture(scope="module", params=["unigram", "bpe"])
def english(request):
    lines = [text for text in SENTENCES if text] * 10
    return Vocabulary(train_vocabulary(lines, 330 if request.param == "unigram" else 400, request.param, 1.0))


def spans_of(lines, vocab):
    split = MemorySplit({"tokens": [np.append(ids, vocab.eos) for ids in vocab.encode(lines)]})
    (stretch,) = stretches(split)
    found = [[] for _ in lines]
    for first, stop in zip(*Salient(vocab)(stretch), strict=True):
        row = np.searchsorted(stretch.offsets, first, side="right") - 1
        found[row].append(vocab.decode(stretch.tokens[first:stop]))
    return found


def test_the_heuristic_on_sentences(english):
    assert dict(zip(SENTENCES, spans_of(list(SENTENCES), english), strict=True)) == SENTENCES


def test_a_vocabulary_without_capitals_leaves_numbers_and_dates():
    tokenizers = pytest.importorskip("tokenizers")
    tokenizer = tokenizers.Tokenizer(tokenizers.models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = tokenizers.normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.BertPreTokenizer()
    specials = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    trainer = tokenizers.trainers.WordPieceTrainer(vocab_size=400, special_tokens=specials, show_progress=False)
    tokenizer.train_from_iterator([*SENTENCES, *SENTENCES], trainer)
    vocab = Vocabulary(tokenizer.to_str().encode(), "uncased")
    assert spans_of(["On 12 March 1998 Ada may march in May"], vocab) == [["12 march 1998"]]
