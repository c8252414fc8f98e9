"""Predictions for many texts: batches by length, order, devices, and the place of a text that cannot be answered."""

from types import SimpleNamespace

import pytest
import torch
from torch import nn

from taskmask.errors import ConfigError, DataError
from taskmask.inference.predictor import OnDevice, as_records, predict
from taskmask.tasks.base import Task
from taskmask.training.precision import _can_speed_up


class Doubling(nn.Module):
    """Returns twice the tokens, and notes the sizes of what it got."""

    def __init__(self):
        super().__init__()
        self.sizes, self.grad = [], []

    def forward(self, tokens, keep=None, positions=None):
        self.sizes.append(tuple(tokens.shape))
        self.grad.append(torch.is_grad_enabled())
        return {"twice": 2 * tokens}

    def generate(self, tokens, keep, how, *, bos, eos):
        return [row.numpy() for row in tokens]


class Lengths(Task):
    """Answers with the length of a text; texts with "bad" have no answer."""

    fields, lists = ("text",), ("words",)

    def __init__(self):
        self.vocab = SimpleNamespace(encode=lambda texts: texts)

    def predict(self, model, records, top, max_length):
        sizes = [len(record.get("words") or record["text"]) for record in records]
        if any("bad" in record.get("text", "") for record in records):
            raise DataError("is bad", where="text", fix="leave it out")
        tokens = torch.zeros((len(records), max(sizes)), dtype=torch.int64) + torch.tensor(sizes)[:, None]
        assert model(tokens=tokens, keep=None, positions={"a": tokens})["twice"].device.type == "cpu"
        return [{"size": size, "top": top} for size in sizes]


def lengths_of(texts, **how):
    model = Doubling()
    task = Lengths()
    found = predict(task, model, as_records(texts, task), top=3, length=100, device="cpu", **{"batch_size": 4, **how})
    return found, model


def test_answers_come_in_the_order_of_the_texts_and_batches_in_that_of_the_lengths():
    texts = ["x" * (1 + 7 * n % 30) for n in range(30)]
    found, model = lengths_of(texts)
    assert found == [{"size": len(text), "top": 3} for text in texts]
    assert model.sizes == [(4, 30), (4, 26), (4, 22), (4, 18), (4, 14), (4, 10), (4, 6), (2, 2)]
    assert not any(model.grad)


def test_no_forward_pass_grows_with_the_number_of_texts():
    _, few = lengths_of(["ab"] * 8)
    _, many = lengths_of(["ab"] * 800)
    assert set(few.sizes) == set(many.sizes) == {(4, 2)} and len(many.sizes) == 200
    assert lengths_of(["ab"] * 8, batch_size=100)[1].sizes == [(8, 2)]
    assert lengths_of([])[0] == []


def test_lists_count_by_their_texts():
    found, model = lengths_of([{"words": ["a" * 50]}, "text", {"words": ["b"] * 3}], batch_size=1)
    assert [one["size"] for one in found] == [1, 4, 3] and model.sizes == [(1, 1), (1, 3), (1, 4)]


@pytest.mark.parametrize("texts", ["the <mask> fox", b"the fox", {"text": "the fox"}])
def test_one_text_is_no_list_of_its_letters(texts):
    with pytest.raises(DataError, match=r"texts: is one (text|record), not a list; .* predict\(\[text\]\)"):
        lengths_of(texts)


def test_an_error_gives_the_place_of_the_first_text_that_has_no_answer_in_its_batch():
    with pytest.raises(DataError, match=r"^texts\[2\]: is bad; leave it out$"):
        lengths_of(["ok", "fine", "bad", "good", "bad news for all"])
    with pytest.raises(DataError, match=r"^texts\[1\]: is '3'; expected a text"):
        lengths_of(["ok", 3])
    with pytest.raises(DataError, match=r"^texts\[1\]: has no text 'text'; expected text$"):
        lengths_of(["ok", {"title": "a"}])


@pytest.mark.parametrize(
    ("how", "says"),
    [
        ({"batch_size": 0}, "batch_size: is 0; expected at least 1"),
        ({"device": "gpu"}, "device: is 'gpu'; expected auto, cpu, cuda or cuda:N"),
        ({"device": "cuda:99"}, "device: is 'cuda:99', GPU number 99, but torch sees"),
    ],
)
def test_wrong_arguments(how, says):
    with pytest.raises(ConfigError, match=says):
        predict(
            Lengths(), Doubling(), [{"text": "a"}], **{"top": 1, "length": 9, "batch_size": 1, "device": "cpu", **how}
        )


def test_inputs_go_to_the_device_of_the_model_and_outputs_come_back():
    """The device "meta" has no numbers, so what was not moved would be seen."""
    seen = []

    class Meta(nn.Module):
        def forward(self, tokens, positions):
            seen.extend([tokens.device.type, positions["a"].device.type])
            return {"ones": torch.ones(2)}

        def generate(self, tokens, keep, how, *, bos, eos):
            return [tokens.device.type, keep, how, bos, eos]

    ready = OnDevice(Meta(), torch.device("meta"))
    assert ready(tokens=torch.zeros(2), positions={"a": torch.zeros(2)})["ones"].device.type == "cpu"
    assert seen == ["meta", "meta"]
    assert ready.generate(torch.zeros(2), None, "how", bos=1, eos=2) == ["meta", None, "how", 1, 2]


def test_products_are_fast_inside_and_as_before_outside():
    setting = torch.backends.mkldnn.matmul
    before, inside = setting.fp32_precision, []

    class Noting(Doubling):
        def forward(self, tokens, keep=None, positions=None):
            inside.append(setting.fp32_precision)
            return super().forward(tokens)

    predict(Lengths(), Noting(), [{"text": "a"}], top=1, length=9, batch_size=1, device="cpu")
    assert setting.fp32_precision == before
    assert inside == ["bf16" if _can_speed_up("cpu") else before] and setting.fp32_precision == before
