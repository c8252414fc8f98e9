"""Predictions for many texts: batches of similar length, on a CPU or a GPU."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from taskmask.data.batch import Batch
from taskmask.errors import ConfigError, DataError
from taskmask.models.base import Model
from taskmask.system.hardware import num_threads
from taskmask.tasks.base import Task
from taskmask.training.distributed import World, find_device, own_threads
from taskmask.training.precision import fast_fp32

COUNTED_AT_ONCE = 1024  # texts whose tokens are counted together
Text = str | Mapping[str, Any]
"""A text, or a record {field: text} with all fields that the task reads."""
Answer = dict[str, Any]
"""The prediction for one text, as JSON types; each task documents its keys in `Task.predict`."""


class OnDevice:
    """A model on a device, for tasks that work on the CPU: moves the inputs there and the outputs back."""

    def __init__(self, model: Model, device: torch.device):
        self.model, self.device = model.to(device), device

    def __call__(self, **inputs: Any) -> dict[str, Tensor]:
        """Returns the outputs of the model, on the CPU."""
        outputs: dict[str, Tensor] = self.model(**self._moved(inputs))
        return {name: tensor.cpu() for name, tensor in outputs.items()}

    def generate(self, tokens: Tensor, keep: Tensor | None, how: Any, **ids: int) -> list[np.ndarray]:
        """Generates a text for each row, as the model does."""
        given = self._moved({"tokens": tokens, "keep": keep})
        found: list[np.ndarray] = self.model.generate(given["tokens"], given["keep"], how, **ids)  # type: ignore[operator]
        return found

    def _moved(self, inputs: dict[str, Any]) -> dict[str, Any]:
        batch = Batch(inputs, {}, np.zeros(0, np.int64), 0)
        return batch.map(lambda value: value.to(self.device) if isinstance(value, Tensor) else value).inputs


def predict(
    task: Task, model: Model, records: Sequence[dict[str, Any]], *, top: int, length: int, batch_size: int, device: str
) -> list[Answer]:
    """Returns a prediction for each record, in their order. The memory needed does not grow with their number.

    Args:
        task: reads the texts, and describes the outputs.
        model: in evaluation mode; moved to the device.
        records: as of `as_records`.
        top: number of answers, if there are several.
        length: tokens in the longest row that the model can take.
        batch_size: texts per forward pass.
        device: "auto", "cpu", "cuda" or "cuda:N".

    Raises:
        ConfigError: the batch size or the device is wrong.
        DataError: the task cannot answer a record; the error gives its place.
    """
    if batch_size < 1:
        raise ConfigError(f"is {batch_size}", where="batch_size", expected="at least 1")
    place = find_device(device, World(), "device")
    answers: list[Answer] = [{}] * len(records)
    with own_threads(), torch.inference_mode(), fast_fp32(place):
        torch.set_num_threads(min(torch.get_num_threads(), num_threads()))  # a container may have fewer cores
        ready = OnDevice(model, place)
        for numbers in _batches(records, task, batch_size):
            try:
                found = task.predict(ready, [records[number] for number in numbers], top, length)
            except DataError:
                for number in sorted(numbers):
                    _predict_one(task, ready, records[number], top, length, number)
                raise
            for number, answer in zip(numbers, found, strict=True):
                answers[number] = answer
    return answers


def as_records(texts: Sequence[Text], task: Task) -> list[dict[str, Any]]:
    """Returns a record {field: text} for each text.

    Raises:
        DataError: it is not a list, or a text is missing; the error gives its place in `texts`.
    """
    if isinstance(texts, str | bytes | Mapping):
        what = f"is {'one record' if isinstance(texts, Mapping) else 'one text'}, not a list"
        raise DataError(what, where="texts", expected="a list", fix="put it in brackets: predict([text])")
    return [_checked(text, task, number) for number, text in enumerate(texts)]


def _checked(text: Text, task: Task, number: int) -> dict[str, Any]:
    """Returns the record of a text.

    Raises:
        DataError: a text is missing.
    """
    record = {"text": text} if isinstance(text, str) else text
    where = f"texts[{number}]"
    if not isinstance(record, Mapping):
        raise DataError(f"is {str(record)[:40]!r}", where=where, expected="a text, or texts by their names")
    for field in () if any(record.get(name) is not None for name in task.lists) else task.fields:
        if not isinstance(record.get(field), str):
            raise DataError(f"has no text {field!r}", where=where, expected=" and ".join(task.fields))
    return dict(record)


def _batches(records: Sequence[Mapping[str, Any]], task: Task, size: int) -> Iterator[list[int]]:
    """Yields the numbers of the records of each batch: the longest first, so that lack of memory shows at once."""

    order = np.argsort(-_lengths(records, task), kind="stable").tolist()
    for begin in range(0, len(order), size):
        yield order[begin : begin + size]


def _lengths(records: Sequence[Mapping[str, Any]], task: Task) -> np.ndarray:
    """Returns about how many tokens each record has, int64 [records]: of all texts that the task reads, together."""
    fields = (*task.fields, *task.lists)
    found: list[int] = []
    for begin in range(0, len(records), COUNTED_AT_ONCE):
        given = [[one[name] for name in fields if one.get(name)] for one in records[begin : begin + COUNTED_AT_ONCE]]
        texts = [" ".join(part if isinstance(part, str) else " ".join(map(str, part)) for part in one) for one in given]
        found += map(len, task.vocab.encode([text.encode("utf-8", "replace") for text in texts]))
    return np.array(found, np.int64)


def _predict_one(task: Task, model: OnDevice, record: dict[str, Any], top: int, length: int, number: int) -> None:
    """Raises the DataError of a record, with its place."""
    try:
        task.predict(model, [record], top, length)
    except DataError as error:
        where = f"texts[{number}]" + (f", {error.where}" if error.where not in ("", "text", "record") else "")
        raise DataError(error.what, where=where, expected=error.expected, fix=error.fix) from None
