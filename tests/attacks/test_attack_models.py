"""Models that a stranger's checkpoint asks for: one larger than its own weights is refused before it is made."""

import pytest
import torch

from taskmask.errors import CheckpointError
from taskmask.inference import loaded_model
from taskmask_cli import main as front

HUGE = {
    "many layers": {"model": {"layers": 100_000}},
    "layers without end": {"model": {"layers": 1 << 62}},
    "narrow layers": {"model": {"layers": 1 << 40, "width": 1, "heads": 1, "feed_forward": 1}},
    "wide": {"model": {"width": 1_000_000, "heads": 1_000_000}},
    "wider than any machine": {"model": {"width": 1 << 40, "heads": 1}},
    "wider than torch can count": {"model": {"width": 1 << 62, "heads": 1}},
    "inner width": {"model": {"feed_forward": 1 << 34}},
    "gated inner width": {"model": {"feed_forward": (1 << 63) - 1, "activation": "geglu"}},
    "long rows": {"data": {"length": 1 << 34}, "train": {"max_tokens": 1 << 34}},
    "rows without end": {"data": {"length": 1 << 62}, "train": {"max_tokens": 1 << 62}},
}


def changed(settings, changes):
    return {section: {**fields, **changes.get(section, {})} for section, fields in settings.items()}


def test_a_model_larger_than_its_weights(good_state, tmp_path, refused_cheaply):
    for name, changes in HUGE.items():
        state = {"format": 1, **good_state, "settings": changed(good_state["settings"], changes)}
        torch.save(state, tmp_path / f"{name}.pt")
    files = [tmp_path / f"{name}.pt" for name in HUGE]
    texts = refused_cheaply("loaded_model.load(path).model", files, 4)
    assert all("its settings say a model that" in text for text in texts.values()), texts
    refused_cheaply("loaded_model.load(path).predict(['the <mask> fox'])", files, 4)


def test_on_the_command_line(good_state, dataset, tmp_path, capfd):
    settings = changed(good_state["settings"], HUGE["many layers"])
    torch.save({"format": 1, **good_state, "settings": settings}, tmp_path / "step-1.pt")
    source = ["--from", str(tmp_path / "step-1.pt")]
    for words in (["predict", *source, "a <mask>"], ["evaluate", *source, "--data", str(dataset), "--split", "train"]):
        assert front.run(front.main, words) == 4
        shown = capfd.readouterr().err
        assert "larger than its weights" in shown and shown.count("\n") == 1


def test_one_number_said_to_be_many(good_state, tmp_path, refused_cheaply):
    """A tensor may repeat one stored number; a small file could so fill a model of any size."""
    name = "model.embeddings.tokens.weight"
    one = torch.zeros(1)
    forged = {
        "model": {"model": {**good_state["model"], name: one.expand(1 << 20, 1 << 20)}},
        "average": {"average": {name: one.expand(1 << 40)}},
        "strided": {"model": {**good_state["model"], name: torch.zeros(9).as_strided((1 << 20, 9), (0, 1))}},
        "optimizer": {"optimizer": {"state": {0: {"exp_avg": one.expand(1 << 40)}}}},
    }
    for kind, parts in forged.items():
        torch.save({"format": 1, **good_state, **parts}, tmp_path / f"{kind}.pt")
    texts = refused_cheaply("loaded_model.load(path).model", sorted(tmp_path.glob("*.pt")), 4)
    assert all("holds less than its tensors say" in text for text in texts.values()), texts


@pytest.mark.filterwarnings("ignore")  # of torch, about the kinds
@pytest.mark.parametrize("kind", ["sparse", "meta", "nested", "quantized", "complex", "integers"])
def test_tensors_of_other_kinds(kind, good_state, tmp_path):
    name = "model.embeddings.tokens.weight"
    shape = good_state["model"][name].shape
    tensor = {
        "sparse": lambda: torch.sparse_coo_tensor(torch.zeros(2, 1, dtype=torch.int64), torch.ones(1), shape),
        "meta": lambda: torch.empty(shape, device="meta"),
        "nested": lambda: torch.nested.nested_tensor([torch.ones(3), torch.ones(2)]),
        "quantized": lambda: torch.quantize_per_tensor(torch.zeros(shape), 0.1, 0, torch.qint8),
        "complex": lambda: torch.zeros(shape[0] + 1, shape[1], dtype=torch.complex64),
        "integers": lambda: torch.zeros(shape[0], 1, dtype=torch.int64),
    }[kind]()
    torch.save({"format": 1, **good_state, "model": {**good_state["model"], name: tensor}}, tmp_path / "step-1.pt")
    with pytest.raises(CheckpointError):
        loaded_model.load(str(tmp_path / "step-1.pt")).model  # noqa: B018 - makes it


def test_a_model_of_its_own_weights_is_made(good_state, tmp_path):
    """Also in a smaller number format, and with one weight for two names."""
    half = {name: tensor.bfloat16() for name, tensor in good_state["model"].items()}
    torch.save({"format": 1, **good_state, "model": half}, tmp_path / "step-1.pt")
    model = loaded_model.load(str(tmp_path / "step-1.pt")).model
    assert {tensor.dtype for tensor in model.parameters()} == {torch.float32}
    with pytest.raises(ZeroDivisionError), loaded_model.no_larger_than({}, "here"):
        raise ZeroDivisionError
    torch.nn.Linear(1000, 1000)  # the watch has ended
