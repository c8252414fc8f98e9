"""taskmask collocations and taskmask spans, as their user meets them; and maskers that read what they write."""

import itertools
import json
import shutil

import pytest

from taskmask.data.dataset import Dataset
from taskmask.errors import ConfigError, DataError
from taskmask_cli import collocations, inspect, spans


@pytest.fixture
def copy(data, tmp_path):
    """A dataset to write into."""
    shutil.copytree(data, tmp_path / "data")
    return str(tmp_path / "data")


def test_from_a_text_to_masks_of_collocations_and_numbers(copy, tmp_path, capsys):
    listed = tmp_path / "list.tsv"
    assert collocations.main(["--data", copy, "--out", str(listed)]) == 0
    said = capsys.readouterr().out
    assert f"{listed}: " in said and "2 words: " in said and "taskmask spans --data" in said
    assert len(listed.read_text().splitlines()) > 10
    assert spans.main(["--data", copy, "--column", "collocation", "--collocations", str(listed)]) == 0
    assert spans.main(["--data", copy, "--column", "spans", "--heuristic"]) == 0
    said = capsys.readouterr().out
    assert "train: 300 spans" in said and "100.0% of the rows have one" in said and "such as 0, " in said
    Dataset.open(copy).verify()
    policies = ["listed", "listed choose=one", "whole_unit column=collocation", "mix of=listed,uniform"]
    words = [word for policy in policies for word in ("--masker", policy)]
    assert inspect.main(["--data", copy, *words, "--sample", "60", "--draws", "2", "--json"]) == 0
    assert [one["policy"] for one in json.loads(capsys.readouterr().out)["policies"]] == policies


def test_what_was_rejected_is_counted(copy, tmp_path, capsys):
    dataset = Dataset.open(copy)
    vocab, split = dataset.vocabulary(), dataset.split("valid")
    offsets = split.offsets("tokens").tolist()
    texts = [vocab.decode(split.values("tokens")[a:b]) for a, b in itertools.pairwise(offsets)]
    answers = ["accept", "reject", "reject", "ignore"]
    lines = [{"text": text, "spans": [[0, 3]], "answer": answers[n % 4]} for n, text in enumerate(texts)]
    lines[0]["spans"] = [{"start": 0, "end": 3, "answer": "reject"}, [4, 8]]
    file = tmp_path / "tags.jsonl"
    file.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    words = ["--data", copy, "--column", "tagged", "--split", "valid", "--jsonl", str(file)]
    assert spans.main(words) == 0
    said = capsys.readouterr().out
    assert f"valid: {len(texts) // 4} spans" in said and len(texts) == 40
    assert "note: 30 lines were rejected or skipped, and are left out (answer ignore 10, answer reject 20)" in said
    assert "note: 31 spans were rejected or skipped, and are left out (answer ignore 10, answer reject 21)" in said


def test_what_is_wrong_is_said_before_anything_is_written(copy, tmp_path):
    column = ["--data", copy, "--column"]
    with pytest.raises(ConfigError, match=r"--jsonl: there are splits train, valid, test, and one file.*--split"):
        spans.main([*column, "new", "--jsonl", str(tmp_path / "tags.jsonl")])
    with pytest.raises(ConfigError, match=r"one of the arguments --jsonl --collocations --heuristic is required"):
        spans.main([*column, "new"])
    with pytest.raises(DataError, match="column 'tokens' exists in split 'train'"):
        spans.main([*column, "tokens", "--heuristic"])
    with pytest.raises(DataError, match="cannot read the list of collocations"):
        spans.main([*column, "new", "--collocations", str(tmp_path / "none.tsv")])
    with pytest.raises(ConfigError, match=r"--size: is 0; expected at least 1"):
        collocations.main(["--data", copy, "--out", str(tmp_path / "list.tsv"), "--size", "0"])
    with pytest.raises(DataError, match=r"reads column 'spans', which is not there.*taskmask spans --data"):
        inspect.main(["--data", copy, "--masker", "listed"])
    assert all("new" not in split.columns for split in Dataset.open(copy).splits.values())
