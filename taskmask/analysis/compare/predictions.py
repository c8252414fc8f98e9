"""What the models of an experiment answer: asked once, kept beside their weights, measured again without them."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import io
import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from taskmask import config
from taskmask.analysis.compare.planner import Planner, Stage
from taskmask.analysis.compare.stage import checkpoint_of
from taskmask.config import from_tables
from taskmask.config.settings import Settings, parse
from taskmask.errors import ConfigError
from taskmask.inference.evaluate import examine
from taskmask.registry import CRITERIA, MASKERS, TASKS, Registry
from taskmask.stats.bootstrap import Measure
from taskmask.system.files import atomic_write, read_bounded
from taskmask.tasks.base import Answers, Task
from taskmask.training.build import DataParts, build_data

COMMON_MASKERS = ("uniform", "whole_word", "span")
_LARGEST = 4 << 30  # bytes of answers


@dataclasses.dataclass(frozen=True)
class Question:
    """A model, and what it is asked.

    Args:
        of: name of the task, or of the masker whose frozen masks a language model fills.
        stage: where the model comes from.
        split: the split whose rows it is asked about.
        sections: settings that differ from those of its training.
    """

    of: str
    stage: Stage
    split: str
    sections: dict[str, Any]

    @functools.cached_property
    def settings(self) -> Settings:
        """Those it is asked with."""
        own = from_tables(self.stage.settings.to_dict(), "stage")
        return parse([*own, *from_tables(self.sections, "question")])

    @property
    def source(self) -> str:
        """Its checkpoint: the best one of a fine-tuning, the last one of an intermediate stage."""
        stage = self.stage
        is_last = stage.kind == "intermediate"
        return str(checkpoint_of(stage, stage.settings.train.steps) if is_last else stage.folder)


class Answered:
    """Gives the measures of models, from the answers that are kept where there are some.

    Only rows are opened for answers that are kept; each set of rows once.
    """

    def __init__(self) -> None:
        self._parts: dict[str, DataParts] = {}

    def file_of(self, question: Question) -> Path:
        """Returns where the answers are kept; its name tells of all that they depend on."""
        tables = {name: table for name, table in question.settings.to_dict().items() if name not in ("run", "data")}
        data = question.settings.data
        content = [tables, data.length, data.blocks, self.parts(question).fingerprint, question.stage.digest]
        digest = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
        return question.stage.folder / f"answers-{question.of}-{question.split}-{digest[:12]}.npz"

    def parts(self, question: Question) -> DataParts:
        """Returns task and rows of a question."""
        tables = question.settings.to_dict()
        key = json.dumps([question.split, *(tables.get(name) for name in ("data", "task", "masker"))], sort_keys=True)
        if key not in self._parts:
            self._parts[key] = build_data(question.settings, [question.split])
        return self._parts[key]

    def kept(self, question: Question) -> Measure | None:
        """Returns the measure of the answers that are kept; None where there are none, or damaged ones."""
        try:
            content = read_bounded(self.file_of(question), _LARGEST)
            archive = content[: -hashlib.sha256().digest_size]  # numpy's checks let some damage pass, or raise anything
            if content != _sealed(archive):
                return None
            with np.load(io.BytesIO(archive), allow_pickle=False) as found:
                return self._measure(question, {name: found[name] for name in found.files})
        except (OSError, ValueError, KeyError, IndexError, EOFError, zipfile.BadZipFile):
            return None

    def ask(self, question: Question, is_first: bool) -> Measure:
        """Asks the model, with all processes together, and keeps what it says."""
        found = examine(question.source, split=question.split, **question.sections)
        if not found.answers:
            raise ConfigError("gives no answers of single examples", where=f"task {question.settings.task.name}")
        if is_first:
            archive = io.BytesIO()
            np.savez(archive, **found.answers)  # type: ignore[arg-type]
            with atomic_write(self.file_of(question)) as file:
                file.write(_sealed(archive.getvalue()))
        return self._measure(question, found.answers)

    def _measure(self, question: Question, answers: Answers) -> Measure:
        parts = self.parts(question)
        return parts.task.measure(answers, parts.sources[question.split])


def _sealed(archive: bytes) -> bytes:
    """Returns an archive with its checksum behind it, where other readers do not look."""
    return archive + hashlib.sha256(archive).digest()


def of_tasks(planner: Planner, stages: list[Stage]) -> list[Question]:
    """Returns what the fine-tuned models are asked: their tasks, on the split that is reported."""
    run = {"run": dataclasses.asdict(planner.experiment.run)}
    tuned = [stage for stage in stages if stage.kind == "finetuning"]
    return [Question(stage.task, stage, planner.splits[stage.task], run) for stage in tuned]


def of_language_models(planner: Planner, stages: list[Stage]) -> list[Question]:
    """Returns what the language models are asked: the same rows and masks for all policies, frozen.

    The rows are those of the baseline, as short as any policy's, so that every model can read them.
    """
    experiment, baseline = planner.experiment, planner.policies[planner.experiment.baseline]
    length = min(settings.data.length for settings in planner.policies.values())
    data = {"path": baseline.data.path, "blocks": baseline.data.blocks, "length": length}
    if "valid" not in planner.measured(baseline).parts.sources:
        return []
    found = []
    for stage in stages:
        if stage.kind == "intermediate" and is_language_model(planner.measured(stage.settings).parts.task):
            for masker in COMMON_MASKERS:
                task = _asked_as(stage.settings.task.name)
                sections = {
                    "task": _defaults(TASKS, task),
                    "criterion": _defaults(CRITERIA, TASKS.get(task).load().default_criterion),
                    "masker": _defaults(MASKERS, masker),
                    "data": data,
                    "run": dataclasses.asdict(experiment.run),
                }
                found.append(Question(masker, stage, "valid", sections))
    return found


def is_language_model(task: Task) -> bool:
    """Whether models of this task say what stood at masked positions, whichever masker has chosen them."""
    return "mlm" in task.heads() and task.masker is not None and type(task).answers is not Task.answers


def _asked_as(task: str) -> str:
    """Returns the task as which its language model is asked: the labels beside its masks, say, are not asked for."""
    return "masked_lm" if issubclass(TASKS.get(task).target, TASKS.get("masked_lm").target) else task


def _defaults(registry: Registry, name: str) -> dict[str, Any]:
    entry = registry.get(name)
    return {"name": name, **config.to_dict(entry.config(**entry.preset))}
