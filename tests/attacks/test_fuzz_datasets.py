"""Every bit of tiny datasets: what is read through a task is the same, or the damage is named with its file."""

import contextlib
import hashlib
import os
from pathlib import Path

import fuzz_help as fuzz
import numpy as np
import pytest

from taskmask.config.settings import Settings
from taskmask.data.dataset import Dataset
from taskmask.data.rng import RowRng
from taskmask.errors import DataError
from taskmask.tokenizer.tokenizer import Vocabulary
from taskmask.training.build import build_data
from taskmask_cli import preprocess

INPUTS = {
    "docs": ("a.txt", fuzz.txt(fuzz.TEXTS[:4]), ["--documents", "blank"]),
    "texts": ("a.jsonl", fuzz.jsonl(fuzz.TEXTED[:3]), "--text text second --label label --number score --list names"),
    "tags": ("a.jsonl", fuzz.jsonl(fuzz.TAGGED[:4]), ""),
    "qa": ("a.jsonl", fuzz.jsonl(fuzz.ASKED[:3]), "--answers"),
}
TASKS = {  # name -> dataset, settings
    "masked_lm": ("docs", {}),
    "pairs": ("texts", {"task": {"name": "classification", "pair": "second"}}),
    "regression": ("texts", {"task": {"name": "regression", "label": "score"}}),
    "seq2seq": ("texts", {"task": {"name": "seq2seq", "target": "names"}, "model": {"name": "bart_tiny"}}),
    "tagging": ("tags", {"task": {"name": "tagging"}}),
    "span": ("qa", {"task": {"name": "span", "max_question": 20, "max_answer": 5}}),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with a dataset for each of the inputs; nothing is synced to the disk."""
    folder = tmp_path_factory.mktemp("bits")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda file: None)
        patch.chdir(folder)
        Path("v.txt").write_text("\n".join([*fuzz.TEXTS, " ".join(fuzz.WORDS)] * 9), encoding="utf-8")
        make("v", "v.txt", ["--vocab-size", "320", "--documents", "line"])
        for name, (file, content, options) in INPUTS.items():
            Path(file).write_bytes(content)
            make(name, file, ["--vocab", "v", *(options.split() if isinstance(options, str) else options)])
        yield folder


def make(out, file, options):
    assert preprocess.main(["--train", file, "--out", out, "--workers", "0", *options]) == 0


def flat(value):
    """The bytes of nested dicts of arrays."""
    if isinstance(value, dict):
        return b"".join(flat(value[key]) for key in sorted(value))
    return np.asarray(value).tobytes()


def digest(settings):
    """Of all that training and evaluation read of the split train."""
    parts = build_data(settings, ["train"])
    source = parts.sources["train"]
    ids = np.arange(len(source))
    batch = parts.task.make_batch(source[ids], RowRng(1, 0, ids))
    texts = [np.asarray(source.split.values(name)) for name in source.split.columns if name in ("text", "answers")]
    return hashlib.sha256(flat(batch.inputs) + flat(batch.targets) + b"".join(map(flat, texts))).digest()


def flipped(file, bits):
    """Flips one bit of a file after the other."""
    content = file.read_bytes()
    try:
        for bit in bits:
            damaged = bytearray(content)
            damaged[bit // 8] ^= 1 << bit % 8
            file.write_bytes(damaged)
            yield bit
    finally:
        file.write_bytes(content)


def check_bits(folder, name, step):
    """Flips every `step`-th bit of the dataset of a task."""
    data, tables = TASKS[name]
    settings = Settings.of({"data": {"path": data, "length": 64}, **tables})
    whole, files = digest(settings), [file for file in (folder / data).rglob("*") if file.suffix in (".bin", ".json")]
    refused = 0
    for file in files:
        for bit in flipped(file, range(len(file.name) % step, 8 * file.stat().st_size, step)):
            with pytest.raises(DataError) as found:
                Dataset.open(data).verify()
            assert file.name in str(found.value), (file, bit)
            try:
                assert digest(settings) == whole, (file, bit)
            except DataError as error:
                assert file.name in str(error) and len(str(error)) < 600, (file, bit)
                refused += 1
    assert refused > 10 and digest(settings) == whole


@pytest.mark.fault(16, 68)
@pytest.mark.parametrize("name", TASKS)
def test_some_bits_of_every_file(name, folder):
    check_bits(folder, name, 41)


@pytest.mark.slow
@pytest.mark.parametrize("name", TASKS)
def test_every_bit_of_every_file(name, folder):
    check_bits(folder, name, 1)


def check_vocabulary(content, bits):
    """A damaged vocabulary is refused, or it encodes and decodes."""
    refused = 0
    for bit in bits:
        damaged = bytearray(content)
        damaged[bit // 8] ^= 1 << bit % 8
        try:
            vocabulary = Vocabulary(bytes(damaged))
            (ids,) = vocabulary.encode(["The dog in Paris 日本."])
            assert isinstance(vocabulary.decode(ids), str) and len(vocabulary.pieces(range(vocabulary.size))[-1])
            vocabulary.encode_with_offsets(["The dog"]), vocabulary.encode_words([["The", "dog"]])
        except DataError:
            refused += 1
    assert refused


@pytest.mark.fault(6)
def test_some_bits_of_a_vocabulary(folder):
    content = Path("v/vocab.model").read_bytes()
    check_vocabulary(content, range(3, 8 * len(content), 59))


@pytest.mark.slow
def test_every_bit_of_a_vocabulary(folder):
    content = Path("v/vocab.model").read_bytes()
    check_vocabulary(content, range(8 * len(content)))


@pytest.mark.fault(6)
def test_a_dataset_with_another_vocabulary_lends_none(folder):
    """Its fingerprint is checked before a new dataset is made with it."""
    whole, others = Vocabulary.load("v").fingerprint, 0
    for _ in flipped(Path("v/vocab.model"), range(0, 20_000, 800)):
        with contextlib.suppress(DataError):
            others += Vocabulary.load("v").fingerprint != whole
        with pytest.raises(DataError):
            make("other", "v.txt", ["--vocab", "v"])
    assert others and not Path("other").exists()
