"""A tiny dataset and a tiny checkpoint without training, for the attacks to spoil."""

import pytest

from taskmask.data.columns import Column
from taskmask.data.vocab import Vocabulary, train_vocabulary
from taskmask.data.writer import DatasetWriter

LINES = [f"the {a} quick brown fox number {i} jumps over {b} lazy dogs" for a in "abc" for b in "xyz" for i in range(9)]


@pytest.fixture(scope="session")
def vocabulary():
    return Vocabulary(train_vocabulary(LINES, 300, character_coverage=1.0))


@pytest.fixture
def dataset(tmp_path, vocabulary):
    """A whole dataset with the split train: tokens, and a label a row."""
    import numpy as np

    with DatasetWriter(tmp_path / "data", vocabulary) as writer:
        split = writer.split("train", {"tokens": Column("ragged", "uint16"), "label": Column("row", "uint8")})
        rows = [np.append(ids, vocabulary.eos) for ids in vocabulary.encode(LINES)]
        tokens = np.concatenate(rows).astype("uint16"), np.array([len(row) for row in rows])
        split.append({"tokens": tokens, "label": np.zeros(len(rows), "uint8")})
        writer.labels["label"] = ["neg", "pos"]
    return tmp_path / "data"


@pytest.fixture(scope="session")
def settings_tables():
    return {"model": {"name": "tiny", "layers": 1, "width": 32, "heads": 2}, "data": {"length": 32}}


@pytest.fixture(scope="session")
def good_state(vocabulary, settings_tables):
    """What a checkpoint of an untrained model holds."""
    from taskmask.settings import Settings
    from taskmask.training.parts import build_objective, build_task

    settings = Settings.of(settings_tables)
    objective = build_objective(settings, build_task(settings, vocabulary, {}))
    return {
        "step": 1, "model": objective.state_dict(), "average": None, "optimizer": {}, "loss_scale": {}, "progress": {},
        "settings": settings.to_dict(), "vocabulary": vocabulary.model_bytes, "labels": {}, "data_fingerprint": "f",
    }  # fmt: skip
