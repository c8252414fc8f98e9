"""Labels that are numbers get names: those of the command line, or of a file as Hugging Face writes it."""

import json

import pytest
from encode_help import Maker

from taskmask.errors import ConfigError, DataError
from taskmask.preprocess.label_names import read_label_names

NAMES = ["O", "B-PER", "I-PER"]
CLASS_LABEL = {"num_classes": 3, "names": NAMES, "id": None, "_type": "ClassLabel"}
FEATURES = {
    "tokens": {"feature": {"dtype": "string", "_type": "Value"}, "_type": "Sequence"},
    "tags": {"feature": CLASS_LABEL, "length": -1, "_type": "Sequence"},
    "label": {"names": ["no", "yes"], "_type": "ClassLabel"},
}


@pytest.mark.parametrize("name, content, columns, expected", [
    ("names.txt", "O\nB-PER\r\nI-PER\n\n", ["tags"], {"tags": NAMES}),
    ("names.json", NAMES, ["tags"], {"tags": NAMES}),
    ("names.json", {"tags": NAMES, "other": ["a", "b"]}, ["label", "tags"], {"tags": NAMES}),
    ("dataset_info.json", {"description": "", "features": FEATURES}, ["tags"], {"tags": NAMES}),
    ("dataset_info.json", {"features": FEATURES}, ["label", "tags"], {"label": ["no", "yes"], "tags": NAMES}),
    ("dataset_infos.json", {"conll": {"features": FEATURES, "splits": {}}}, ["tags"], {"tags": NAMES}),
    ("config.json", {"id2label": {"1": "B-PER", "0": "O", "2": "I-PER"}, "label2id": {}}, ["x"], {"x": NAMES}),
])  # fmt: skip
def test_files(tmp_path, name, content, columns, expected):
    (tmp_path / name).write_text(content if isinstance(content, str) else json.dumps(content), newline="")
    assert read_label_names([str(tmp_path / name)], columns) == expected
    assert read_label_names(NAMES, ["tags"]) == {"tags": NAMES}


@pytest.mark.parametrize("given, columns, message", [
    (NAMES, [], "there are no labels to name"),
    (NAMES, ["a", "b"], r"one list of names, but there are labels in a, b.*\{\"a\""),
    (["O"], ["a"], r"--label-names O: cannot be read: No such file.*two or more names"),
    (["O", "B", "O"], ["a"], "the name 'O' occurs twice"),
    (["O", " "], ["a"], r"name 1 is ' '"),
    ('{"b": ["x", "y"], "c": ["z"]}', ["a"], "no names for a; .*it has b, c"),
    ('{"features": {"b": {"dtype": "int64"}}}', ["a"], "no names for a; .*it has none"),
    ('{"id2label": {"0": "a", "2": "b"}}', ["a"], "name 1 is None"),
    ("[]", ["a"], "there is no name"), ("[1, 2]", ["a"], "name 0 is 1"), ('"O"', ["a"], "holds no names"),
    ("{", ["a"], "not valid JSON"),
])  # fmt: skip
def test_what_cannot_be_names(tmp_path, given, columns, message):
    if isinstance(given, str):
        (tmp_path / "names.json").write_text(given)
        given = [str(tmp_path / "names.json")]
    with pytest.raises((ConfigError, DataError), match=message):
        read_label_names(given, columns)


def test_the_numbers_of_rows_and_words_get_their_names(tmp_path, unigram):
    rows = [
        {"words": ["the", "fox", "dog"], "tags": [2, 0, 2], "label": 1},
        {"words": ["fox"], "tags": [0], "label": 1},
    ]
    make = Maker(tmp_path, unigram)
    content = "".join(json.dumps(row) + "\n" for row in rows)
    names = {"tags": NAMES, "label": ["no", "yes"]}
    dataset = make({"train.jsonl": content, "valid.jsonl": json.dumps(rows[1])}, label_names=names)
    assert dataset.labels == names and dataset.split("train").values("label").tolist() == [1, 1]
    split = dataset.split("train")
    first = [split.values("tags")[split.values("word") == word][0] for word in range(3)]
    assert first == [2, 0, 2]
    assert make.summary["train"].labels == {"tags": {"O": 2, "B-PER": 0, "I-PER": 2}, "label": {"no": 0, "yes": 2}}
    assert make.summary["valid"].labels == {"tags": {"O": 1, "B-PER": 0, "I-PER": 0}, "label": {"no": 0, "yes": 1}}
    table = make({"train.tsv": "text\tlabel\nfox\t1\ndog\t0\n"}, label_names={"label": ["no", "yes"]})
    assert table.split("train").values("label").tolist() == [1, 0] and table.labels == {"label": ["no", "yes"]}


@pytest.mark.parametrize("label, message", [
    (3, r"--label-names, field 'label': the label is '3'; expected a whole number from 0 to 2, as .* gives 3 names"),
    ("-7", "the label is '-7'"), ("0.5", r"the label is '0\.5'"), (True, "the label is 'true'"),
    ("B-PER", "the label is 'B-PER'.*; leave out --label-names: the labels have names already"),
])  # fmt: skip
def test_a_label_without_a_name_is_an_error(tmp_path, unigram, label, message):
    row = {"text": "the fox", "label": label}
    with pytest.raises(DataError, match=message):
        Maker(tmp_path, unigram)({"train.jsonl": json.dumps(row)}, label_names={"label": NAMES})
    assert [path.name for path in tmp_path.iterdir()] == ["train.jsonl"]
