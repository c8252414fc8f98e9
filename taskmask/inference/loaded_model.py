"""A trained model, ready to be used: its settings, vocabulary, task and weights, read from a checkpoint alone."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import shlex
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor, nn
from torch.nn.modules.module import register_module_parameter_registration_hook

from taskmask.checkpoints import checkpoint
from taskmask.checkpoints.find import run_of
from taskmask.checkpoints.read import HEADS, read, shortened, weights_of
from taskmask.checkpoints.saved_settings import parse_saved, without_unchecked
from taskmask.config import Assignment
from taskmask.config.run_paths import places_of
from taskmask.config.settings import Settings
from taskmask.data.dataset import Dataset
from taskmask.errors import CheckpointError, ConfigError, DataError
from taskmask.inference.predictor import Answer, Text, as_records, predict
from taskmask.models.base import Model
from taskmask.system.console import say
from taskmask.tasks.base import Task
from taskmask.tokenizer.tokenizer import Vocabulary
from taskmask.training.build import build_data, build_objective, build_task
from taskmask.training.objective import Objective
from taskmask.training.unread import unread_fields


@dataclasses.dataclass(repr=False)
class Pretrained:
    """A checkpoint in memory.

    Args:
        file: where it was read.
        settings: those of the run.
        vocab: the vocabulary it was trained with.
        labels: {column: names of its labels}.
        weights: {name: tensor} of the objective; the average of the weights where the run kept one.
        step: steps it was trained.
        facts: what else the checkpoint tells: "data_fingerprint", "progress", "versions".
    """

    file: Path
    settings: Settings
    vocab: Vocabulary
    labels: dict[str, list[str]]
    weights: dict[str, Tensor]
    step: int
    facts: dict[str, Any] = dataclasses.field(default_factory=dict)
    _has_warned: bool = dataclasses.field(default=False, init=False, repr=False)

    def __repr__(self) -> str:
        """What it is, in a few lines: no weights."""
        settings, numbers = self.settings, sum(tensor.numel() for tensor in self.weights.values())
        masker = f", masker {settings.masker.name}" if settings.masker else ""
        labels = "".join(
            f"\n  labels of {column}: {', '.join(names[:8])}{f' ... ({len(names)})' if len(names) > 8 else ''}"
            for column, names in self.labels.items()
        )
        return (
            f"Pretrained from {str(self.file)!r}, step {self.step:,}"
            f"\n  task {settings.task.name}, model {settings.model.name} ({numbers:,} weights){masker}"
            f"\n  vocabulary of {self.vocab.size:,} pieces, rows of at most {settings.data.length} tokens{labels}"
        )

    def changed(self, overrides: Sequence[Assignment]) -> Pretrained:
        """Returns the same weights with settings that differ from the run's, such as `task.beams`."""
        if not overrides:
            return self
        return dataclasses.replace(self, settings=parse_saved(self.settings.to_dict(), str(self.file), overrides))

    def task(self) -> Task:
        """Makes the task of the run; without its masker, if the code of the masker is not loaded."""
        return build_task(without_unchecked(self.settings), self.vocab, self.labels)

    def objective(self, settings: Settings, task: Task) -> Objective:
        """Makes model and criterion with these weights, in evaluation mode.

        Raises:
            CheckpointError: the weights are not those of a model with these settings.
        """
        with no_larger_than(self.weights, str(self.file)):
            objective = build_objective(settings, task)
        heads = [f"{HEADS}{name}." for name in task.heads()]
        lacking = [head for head in heads if not any(name.startswith(head) for name in self.weights)]
        if lacking:
            names = ", ".join(head.removeprefix(HEADS).rstrip(".") for head in lacking)
            what = f"holds an encoder without the head {names}, so that it says nothing yet"
            raise CheckpointError(
                what, where=str(self.file), fix=f"train it first: --train.init_from {shlex.quote(str(self.file))}"
            )
        own = objective.state_dict()
        weights = {name: shortened(name, tensor, own.get(name)) for name, tensor in self.weights.items()}
        other = settings.task.name != self.settings.task.name
        unused = [name for name in weights if name.startswith(HEADS) and name not in own]
        for name in unused:
            if other or not name.startswith(tuple(heads)):  # the task has no such head
                del weights[name]
        checkpoint.put_weights(objective, weights, str(self.file))
        return objective.eval()

    def dataset(self, data: str = "") -> Dataset:
        """Opens a dataset: the run's own, unless another is named.

        Raises:
            DataError: it is damaged, or not there.
        """
        own = self.settings.data.path
        if data not in ("", own) or Path(own).exists():
            return Dataset.open_to_read(data or own)
        tried = places_of(own, run_of(self.file), self.settings.run.folder)
        more = ", or in a folder above the run" if len(tried) > 2 else ""
        expected = f"it at {' or '.join(tried[:2])}{more}"
        raise DataError(
            "its dataset is not there", where=str(self.file), expected=expected, fix="give --data DIR, or move it there"
        )

    def has_its_data(self) -> bool:
        """Returns whether the dataset of the run is still there, as it was."""
        try:
            known = Dataset.open(self.settings.data.path).splits
            splits = ["train", *(["valid"] if "valid" in known else [])]
            parts = build_data(self.settings, splits, self.labels)
        except (ConfigError, DataError):
            return False
        return bool(parts.fingerprint == self.facts["data_fingerprint"])

    def check_vocabulary(self, data: str) -> None:
        """Raises a CheckpointError unless the dataset at `data` was made with this vocabulary."""
        found = self.dataset(data).vocabulary().fingerprint if data else self.vocab.fingerprint
        place = self.settings.data.path or self.file.parent.parent  # of a converted run
        if found != self.vocab.fingerprint:
            raise CheckpointError(
                f"was trained with vocabulary {self.vocab.fingerprint[:12]}",
                where=str(self.file),
                expected=f"that of dataset {data}, {found[:12]}",
                fix=f"prepare the data with taskmask-preprocess --vocab {shlex.quote(str(place))}",
            )

    @functools.cached_property
    def model(self) -> Model:
        """The network alone, in evaluation mode."""
        return self.objective(self.settings, self.asked).model

    @functools.cached_property
    def asked(self) -> Task:
        """The task, made once, for predictions."""
        return self.task()

    def predict(
        self, texts: Sequence[Text], top: int = 5, *, batch_size: int = 32, device: str = "auto"
    ) -> list[Answer]:
        """Returns a prediction for each text; of a masked language model, fills for every `<mask>`.

        Texts of similar length share a forward pass. The memory needed does not grow with the number of texts.

        A record with a second text that the task could read and does not is named once, on standard error.

        Args:
            texts: a list of texts; or of records {field: text} if the task reads several, such as both of a pair.
            top: number of answers, if there are several.
            batch_size: texts per forward pass.
            device: "auto" (a GPU if torch sees one), "cpu", "cuda" or "cuda:N".

        Raises:
            ConfigError: the batch size or the device is wrong.
            DataError: a text is missing or empty, or the task cannot answer it; the error gives its place in `texts`.
        """
        task = self.asked
        records = as_records(texts, task)
        unread = "" if self._has_warned else next(filter(None, (unread_fields(one, task) for one in records)), "")
        if unread:
            say(f"warning: {unread}")
            self._has_warned = True
        sizes = {"top": top, "length": self.settings.data.length, "batch_size": batch_size}
        return predict(task, self.model, records, device=device, **sizes)

    def fill_mask(self, text: str, top: int = 5) -> list[list[dict[str, Any]]]:
        """Returns, for every `<mask>` of the text, the `top` fills: [[{"token", "piece", "probability"}, ...], ...]."""
        return [mask["fills"] for mask in self.predict([text], top)[0]["masks"]]


@contextlib.contextmanager
def no_larger_than(weights: Mapping[str, Tensor], where: str) -> Iterator[None]:
    """Ends the making of a model, inside a `with`, as soon as it has more parameters than `weights` could fill.

    The settings of a stranger may ask for a model that fills the machine. Its parameters are counted as they are made:
    at that moment their memory is reserved, but not yet in use. Where some are made twice, or in a smaller number
    format than they are kept in, there is room for it.

    Raises:
        CheckpointError: the model is larger than that, or than any machine.
    """
    fix = "do not use it, or give the model settings it was trained with"
    names, numbers = 2 * len(weights) + 8, 4 * sum(tensor.numel() for tensor in weights.values()) + 1024

    def count(module: nn.Module, name: str, parameter: nn.Parameter) -> None:
        nonlocal names, numbers
        names, numbers = names - 1, numbers - parameter.numel()
        if names < 0 or numbers < 0:
            raise CheckpointError("its settings say a model that is larger than its weights", where=where, fix=fix)

    hook = register_module_parameter_registration_hook(count)
    try:
        yield
    except (RuntimeError, TypeError, ValueError, OverflowError, MemoryError) as error:  # more than torch can count, say
        reason = str(error).split("\n")[0]
        raise CheckpointError(
            f"its settings say a model that cannot be made: {reason}", where=where, fix=fix
        ) from error
    finally:
        hook.remove()


def load(source: str) -> Pretrained:
    """Reads the best checkpoint of a run folder, or one checkpoint.

    A relative `data.path` of the run leads from where it began, else from here, else from a folder above the run.

    Raises:
        CheckpointError: it is missing or damaged.
    """
    file, settings, state = read(source)
    facts = {name: state.get(name) for name in ("data_fingerprint", "progress", "versions")}
    return Pretrained(
        file, settings, Vocabulary(state["vocabulary"]), state["labels"], weights_of(state), state["step"], facts
    )
