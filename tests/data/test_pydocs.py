"""The documentation of Python as a text."""

import json
import sys

from taskmask.preprocess import python_docs


def records(split):
    return [json.loads(line) for line in python_docs.open_records(f"python-docs:{split}").read().decode().splitlines()]


def test_real_text_in_three_splits():
    splits = {split: records(split) for split in ("train", "valid", "test")}
    texts = [record["text"] for rows in splits.values() for record in rows]
    total = len(texts)
    assert total > 5000 and sum(map(len, texts)) > 1_500_000
    assert 0.87 < len(splits["train"]) / total < 0.93
    assert 0.03 < len(splits["valid"]) / total < 0.07
    assert len(set(texts)) == total
    labels = {record["label"] for record in splits["train"]}
    assert {"topics", "asyncio", "json", "argparse"} <= labels
    assert not {"test", "lib2to3", "site-packages", "idle_test", "pip"} & labels


def test_each_text_is_one_clean_line():
    for record in records("valid"):
        text = record["text"]
        assert text == " ".join(text.split()) and len(text) >= 30 and "****" not in text


def test_the_order_is_always_the_same(monkeypatch):
    first = python_docs.open_records("python-docs:test").read()
    python_docs._split_lines.cache_clear()
    assert python_docs.open_records("python-docs:test").read() == first
    assert python_docs.size("python-docs:test") == len(first)


def test_nothing_is_imported():
    assert "turtledemo" not in sys.modules and "antigravity" not in sys.modules


def test_names():
    assert python_docs.is_python_docs("python-docs:train") and not python_docs.is_python_docs("docs.txt")
    assert python_docs.problem("python-docs:valid") == ""
    assert "did you mean 'train'" in python_docs.problem("python-docs:trian")
