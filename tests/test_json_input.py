"""JSON of others is read strictly: no key twice, UTF-8 only, and one kind of error."""

import json

import pytest

from taskmask.system.json_input import from_json


@pytest.mark.parametrize("value", [None, 1.5, "ü", [1, {"a": []}], {"a": {"b": 1}, "c": "\u2028"}])
def test_what_json_reads_is_read_so(value):
    for text in (json.dumps(value), json.dumps(value, ensure_ascii=False)):
        assert from_json(text) == from_json(text.encode()) == from_json(b"\xef\xbb\xbf" + text.encode()) == value


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('{"a": 1, "b": {"c": 2, "d": 3, "c": 4}}', "the key 'c' stands twice"),
        ("[" * 100_000, "nested too deeply"),
        ('{"a": 1}'.encode("utf-16"), "utf-8"),
        ('{"a": 1}'.encode("utf-32-le"), "Expecting"),
        (b'{"a": "\xe9"}', "utf-8"),
        ("", "Expecting value"),
        ("9" * 5000, "thousands of digits"),
    ],
)
def test_what_is_refused_is_a_value_error(text, says):
    with pytest.raises(ValueError, match=says):
        from_json(text)
