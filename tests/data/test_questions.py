"""Questions with answers in a context: the forms of SQuAD, where answers stand in tokens, and what is wrong."""

import gzip
import json
from pathlib import Path

import numpy as np
import pytest
from encode_help import Maker, content_of, rows_of
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from taskmask.errors import DataError
from taskmask.preprocess import pipeline, readers
from taskmask.preprocess.squad import find_answer
from taskmask.tokenizer.tokenizer import Vocabulary, train_vocabulary

SQUAD = Path(__file__).parents[3] / "shared" / "data" / "squad_v1"
CONTEXT = "The  quick brown\nfox jumps over the café; 北京天安门 it's unbelievable."
ROW = {"question": "Who\tjumps?", "context": CONTEXT, "answers": ["brown fox", "fox"], "answer_start": [11, 17]}


@pytest.fixture
def make(tmp_path, unigram):
    return Maker(tmp_path, unigram)


def dicts_of(row):
    return [{"text": text, "answer_start": at} for text, at in zip(row["answers"], row["answer_start"], strict=True)]


def nested(*rows, **more):
    """Rows as a file of SQuAD, an article and a paragraph each."""
    articles = []
    for row in rows:
        question = {"id": "1", "question": row["question"], "answers": dicts_of(row), **more}
        articles.append({"title": "Dogs", "paragraphs": [{"context": row["context"], "qas": [question]}]})
    return json.dumps({"version": "1.1", "data": articles})


def plain(text):
    return text.replace("\n", " ").replace("\t", " ")


def bytes_of(dataset, column):
    return [row.tobytes().decode() for row in rows_of(dataset, column)]


def check(dataset, vocabulary, rows):
    """All that must hold of a dataset of questions; returns how many answers are exactly those of their tokens."""
    contexts = [plain(row["context"]) for row in rows]
    assert bytes_of(dataset, "text") == contexts
    assert bytes_of(dataset, "answers") == ["\n".join(map(plain, row["answers"])) for row in rows]
    columns = [rows_of(dataset, name) for name in ("tokens", "starts", "ends")]
    exact = 0
    for context, row, answer, tokens, starts, ends in zip(
        contexts, rows, dataset.split("train").values("answer"), *columns, strict=True
    ):
        assert (tokens[-1], starts[-1], ends[-1]) == (vocabulary.eos, 0, 0)
        starts, ends, (first, last) = starts[:-1], ends[:-1], answer
        begin = row["answer_start"][0]
        stop = begin + len(row["answers"][0])
        overlaps = np.flatnonzero((starts < stop) & (ends > begin))
        assert (first, last) == (overlaps[0], overlaps[-1])
        span = context[starts[first] : ends[last]]
        assert plain(row["answers"][0]).strip() in span
        exact += span == row["answers"][0] and vocabulary.decode(tokens[first : last + 1]).strip() in (span, f" {span}")
    return exact


@pytest.mark.parametrize("name, content", [
    ("train.jsonl", json.dumps(ROW)),
    ("train.jsonl", json.dumps({**ROW, "answers": {"text": ROW["answers"], "answer_start": ROW["answer_start"]}})),
    ("train.jsonl", json.dumps({**ROW, "answers": [{"text": t, "answer_start": s} for t, s in
                                                   zip(ROW["answers"], ROW["answer_start"], strict=True)]})),
    ("train.json", nested(ROW, is_impossible=False)),
    ("train.json.gz", gzip.compress(b"\xef\xbb\xbf" + nested(ROW).encode(), mtime=0)),
])  # fmt: skip
def test_forms_of_the_same_question(make, vocabulary, name, content):
    make.vocabulary = vocabulary
    dataset = make({name: content})
    assert check(dataset, vocabulary, [ROW]) == 1
    columns = dataset.split("train").columns
    assert list(columns) == ["tokens", "question", "starts", "ends", "text", "answers", "answer"]
    assert columns["answer"].width == 2 and columns["starts"].of == columns["ends"].of == "tokens"
    (question,) = rows_of(dataset, "question")
    assert vocabulary.decode(question) == "Who jumps?" and question[-1] == vocabulary.eos
    assert bytes_of(dataset, "answers") == ["brown fox\nfox"]
    dataset.verify()


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data(), kind=st.sampled_from(["unigram", "bpe"]))
def test_tokens_that_overlap_any_answer_are_taken(tmp_path, unigram, bpe, data, kind):
    vocabulary = unigram if kind == "unigram" else bpe
    rows = []
    for _ in range(data.draw(st.integers(1, 4))):
        context = data.draw(st.text(st.sampled_from("abc the dog\n\t 北京é🦊."), min_size=1, max_size=40)) + "x"
        start = data.draw(st.integers(0, len(context) - 1))
        stop = data.draw(st.integers(start + 1, len(context)))
        if not context[start:stop].strip():
            start, stop = len(context) - 1, len(context)
        rows.append({"question": "", "context": context, "answers": [context[start:stop]], "answer_start": [start]})
    check(Maker(tmp_path, vocabulary)({"train.jsonl": "\n".join(map(json.dumps, rows))}), vocabulary, rows)


def test_answers_inside_a_token(make, unigram):
    (starts,), (ends,) = (rows_of(make({"train.jsonl": json.dumps(ROW)}), name) for name in ("starts", "ends"))
    longest = np.argmax(ends - starts)
    start, stop = starts[longest] + 1, ends[longest] - 1
    inside = {**ROW, "answers": [CONTEXT[start:stop]], "answer_start": [int(start)]}
    assert check(make({"train.jsonl": json.dumps(inside)}), unigram, [inside]) == 0


def test_for_prediction_answers_may_be_missing(make):
    bare = {"question": "Who?", "context": CONTEXT}
    for test in (json.dumps(bare), json.dumps({**bare, "answers": None})):
        dataset = make({"train.jsonl": json.dumps(ROW), "test.jsonl": test})
        assert list(dataset.split("test").columns) == ["tokens", "question", "starts", "ends", "text"]
    dataset = make(
        {"train.json": json.dumps({"data": [{"paragraphs": [{"context": "a", "qas": [{"question": "b"}]}]}]})}
    )
    assert "answer" not in dataset.split("train").columns
    assert "answer" not in make({"train.jsonl": json.dumps(bare)}, form="answers").split("train").columns
    with pytest.raises(DataError, match="there is no field 'text'"):
        make({"train.jsonl": json.dumps(bare)})
    with pytest.raises(DataError, match=r"train\.jsonl:2: there is no field 'answers'"):
        make({"train.jsonl": json.dumps(ROW) + "\n" + json.dumps(bare)})


@pytest.mark.parametrize(("answer", "context", "found"), [
    ("fox", "A FOX, a fox", "FOX"),
    ("the  U.S.", "in The U. S. of", "The U. S."),
    ("cafe\u0301 noir", "un Café\tNoir!", "Café\tNoir"),
    ("ox", "fox and oxen", None),
    ("25", "in 1925, 25%", "25"),
    ("a b", "a a b", "a b"),
    ("北京", "我爱 北京 天", "北京"),
    ("...", "no", None),
    ("", "no", None),
])  # fmt: skip
def test_answers_are_found_word_by_word(answer, context, found):
    place = find_answer(answer, context)
    assert (place and context[slice(*place)]) == found


def test_answers_without_places_are_looked_for(make, unigram):
    context = "The quick brown fox jumps over the brown Fox."
    bare = {"question": "Who?", "context": context, "answers": ["a dog", "BROWN FOX", "Jumps"]}
    placed = {**bare, "answers": ["brown fox", "jumps"], "answer_start": [10, 20]}
    for answers in (bare["answers"], {"text": bare["answers"]}):
        dataset = make({"train.jsonl": json.dumps({**bare, "answers": answers})})
        assert check(dataset, unigram, [placed]) == 1 and bytes_of(dataset, "answers") == ["brown fox\njumps"]
    lacking = json.dumps(bare) + "\n" + json.dumps({**bare, "answers": ["cat"]})
    with pytest.raises(DataError, match=r"train\.jsonl:2: no answer stands in the context; expected 'cat'"):
        make({"train.jsonl": lacking})
    assert make({"train.jsonl": lacking}, on_bad_answer="skip").split("train").rows == 1


@pytest.mark.parametrize("empty", [None, [], {"text": [], "answer_start": []}])
def test_answers_after_a_question_without_are_not_dropped(make, empty):
    bare = {"question": "Who?", "context": CONTEXT}
    message = r":2: the first question of the split has no answers, this one has"
    with pytest.raises(DataError, match=message):
        make({"train.jsonl": json.dumps(bare) + "\n" + json.dumps(ROW)}, form="answers")
    content = json.dumps(bare) + "\n" + json.dumps({**bare, "answers": empty})
    assert "answers" not in make({"train.jsonl": content}, form="answers").split("train").columns


def test_text_is_preferred_but_not_where_questions_are_asked_for(make):
    row = json.dumps({**ROW, "text": "the dog", "label": "a"})
    assert list(make({"train.jsonl": row}).split("train").columns) == ["tokens", "label"]
    dataset = make({"train.jsonl": row}, form="answers")
    assert "answer" in dataset.split("train").columns and dataset.labels == {"label": ["a"]}


def bad(**changes):
    return json.dumps(ROW) + "\n\n" + json.dumps({**ROW, **changes})


BAD_ANSWERS = [
    ({"answer_start": [12, 17]}, r"at character 12 of the context stands 'rown fox '; expected the answer 'brown fox', "
                                 r"which stands at character 11; .*leave such rows out with --on-bad-answer skip"),
    ({"answer_start": [11, 10**99]}, r"at character 10{19}… of the context stands ''; expected the answer 'fox'"),
    ({"answer_start": [11, 999]}, r"at character 999 of the context stands ''; expected the answer 'fox', which"),
    ({"answers": ["brown fox", "cat"]}, r"at character 17 .*'fox'; expected the answer 'cat', which the context does"),
    ({"answers": ["", "fox"]}, r"an answer is blank"),
    ({"answers": [" ", "fox"], "answer_start": [3, 17]}, r"an answer is blank"),
    ({"answers": [], "answer_start": []}, r"the question has no answer; .*impossible.*--on-bad-answer skip"),
    ({"answers": {"text": [], "answer_start": []}}, r"the question has no answer"),
    ({"is_impossible": True}, r"the question has no answer"),
]  # fmt: skip


@pytest.mark.parametrize("changes, message", BAD_ANSWERS)
def test_bad_answers_stop_it_or_are_left_out(make, unigram, changes, message):
    with pytest.raises(DataError, match=r"train\.jsonl:3: " + message):
        make({"train.jsonl": bad(**changes)})
    dataset = make({"train.jsonl": bad(**changes)}, on_bad_answer="skip")
    assert check(dataset, unigram, [ROW]) == 1
    summary = make.summary["train"]
    assert (summary.rows, summary.left_out) == (1, 1) and "train.jsonl:3: " in summary.first_left_out
    with pytest.raises(DataError, match=r"split 'train' has no rows.*all 1 were left out: .*train\.jsonl:1: "):
        make({"train.jsonl": json.dumps({**ROW, **changes, "score": 1})}, on_bad_answer="skip", number=("score",))


@pytest.mark.parametrize("changes, message", [
    ({"answers": ["fox"]}, r"there are 1 answers and 2 in 'answer_start'"),
    ({"answers": "fox"}, r"'answers' is 'fox'; expected a list of strings with \"answer_start\""),
    ({"answers": ["brown fox", 3]}, r"'answers' is '3'; expected a string"),
    ({"answers": [{"text": "fox"}]}, r"'answer_start' is 'None'; expected a whole number"),
    ({"answer_start": [11, -1]}, r"'answer_start' is '-1'; expected a whole number, counting characters from 0"),
    ({"answer_start": [11, True]}, r"'answer_start' is 'True'"),
    ({"answer_start": None}, r"'answers' is .*expected a list of strings with"),
    ({"context": 3}, r"'context' is '3'; expected a string"),
    ({"question": None}, r"'question' is 'None'; expected a string"),
    ({"context": "\ud800"}, r"'context' holds half a surrogate"),
])  # fmt: skip
def test_wrong_forms_stop_it_always(make, tmp_path, changes, message):
    for action in ("stop", "skip"):
        with pytest.raises(DataError, match=r"train\.jsonl:3: " + message):
            make({"train.jsonl": bad(**changes)}, on_bad_answer=action)
    assert [path.name for path in tmp_path.iterdir()] == ["train.jsonl"]


@pytest.mark.parametrize("content, message", [
    ("[1]", r"train\.json: this is no SQuAD file; .*--input-format jsonl"),
    ('{"text": "a"}\n{"text": "b"}\n', r"train\.json: the file is not valid JSON: .*--input-format jsonl"),
    ('{"data": {}}', r"train\.json: there is no list 'data'"),
    ('{"data": [{"paragraphs": []}, {"title": "Dogs"}]}', r"\.json, article 2 \(Dogs\): there is no list 'paragraphs'"),
    ('{"data": [{"paragraphs": [{}]}]}', r"train\.json, article 1, paragraph 1: there is no list 'qas'"),
    ('{"data": [{"paragraphs": [{"context": "a", "qas": [3]}]}]}', r"article 1, paragraph 1: a question or its"),
    ('{"data": [{"paragraphs": [{"qas": [{"question": "a"}]}]}]}', r"article 1, paragraph 1: a question or its"),
    ('{"data": []}', r"train\.json: there is no text"),
    (b'{"data": "\xff"}', r"train\.json:1:11: byte 0xff is not UTF-8"),
    (nested(ROW, {**ROW, "answer_start": [12, 17]}),
     r"train\.json, article 2 \(Dogs\), paragraph 1, question 'Who\\tjumps\?': at character 12 of the context stands"),
])  # fmt: skip
def test_bad_squad_files(make, content, message):
    with pytest.raises(DataError, match=message):
        make({"train.json": content})


@pytest.mark.fault(12)
def test_any_number_of_workers_and_any_chunks_give_the_same_bytes(make, tmp_path, monkeypatch):
    rows = []
    for number in range(40):
        start = 11 + len(f"{number} ")
        changes = {"answers": ["brown", "brown f"], "answer_start": [start, start]}
        rows.append({**ROW, "context": f"{number} {CONTEXT}".replace("\n", " ") * (number % 3 + 1), **changes})
    results = []
    for workers, chunk, name in ((0, 1 << 20, "train.jsonl"), (3, 300, "train.jsonl"), (0, 1000, "train.json")):
        monkeypatch.setattr(readers, "CHUNK", chunk)
        monkeypatch.setattr(pipeline, "CHUNK", chunk)
        make({name: nested(*rows) if name == "train.json" else "\n".join(map(json.dumps, rows))}, workers=workers)
        results.append(content_of(tmp_path / "out"))
    assert results[0] == results[1] == results[2]


@pytest.mark.skipif(not SQUAD.is_dir(), reason="the data is not here")
@pytest.mark.parametrize(
    "name, kind, rows, least", [("train_part", "bpe", 4252, 0.995), ("dev_xquad_en", "unigram", 1190, 0.95)]
)
def test_real_answers_are_found_in_the_tokens(tmp_path, name, kind, rows, least):
    raw = gzip.decompress((SQUAD / f"{name}.jsonl.gz").read_bytes())
    records = [json.loads(line) for line in raw.splitlines()]
    contexts = list(dict.fromkeys(record["context"] for record in records))[::4]
    vocabulary = Vocabulary(train_vocabulary(contexts, 2500, kind))
    dataset = Maker(tmp_path, vocabulary)({"train.jsonl": raw}, workers=2)
    assert dataset.split("train").rows == rows
    assert check(dataset, vocabulary, records) > least * rows
