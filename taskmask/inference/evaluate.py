"""A checkpoint evaluated on a split: metrics with intervals, by the masks of its run or by others."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from taskmask.config import Assignment, from_tables
from taskmask.config.settings import parse
from taskmask.inference import loaded_model
from taskmask.stats.bootstrap import Measure, intervals
from taskmask.system.console import say
from taskmask.tasks.base import Answers
from taskmask.training import distributed
from taskmask.training.auto_precision import for_trained
from taskmask.training.build import build_data
from taskmask.training.data_loader import BatchMaker, workers_watched
from taskmask.training.eval_loop import (
    find_over,
    metrics_of,
    undefined,
)


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """A checkpoint on a split.

    Args:
        metrics: by their names.
        result: metrics, sizes, and what was evaluated, as JSON types.
        measure: the metrics over any choice of examples; None where the task gives no answers.
        answers: what `measure` was made of, the records of the task; empty where it gives none.
        notes: what people should know of the rows and the metrics, such as how many rows are cut.
        notes_on_metrics: those of them that are about the metrics.
    """

    metrics: dict[str, float]
    result: dict[str, Any]
    measure: Measure | None
    answers: Answers = dataclasses.field(default_factory=dict)
    notes: tuple[str, ...] = ()
    notes_on_metrics: tuple[str, ...] = ()


def examine(
    source: str,
    data: str | Mapping[str, Any] = "",
    split: str = "valid",
    overrides: Iterable[Assignment] = (),
    advance: Callable[[int], Any] = lambda rows: None,
    **sections: Any,
) -> Evaluation:
    """Evaluates a checkpoint, as `evaluate` does; the intervals are left to be computed."""
    loaded = loaded_model.load(source)
    own = from_tables(loaded.settings.to_dict(), str(loaded.file))
    given = [*from_tables({**({"data": data} if data else {}), **sections}, "evaluate"), *overrides]
    settings = parse([*own, *given])
    loaded.check_vocabulary(settings.data.path)
    with distributed.joined(settings.run) as (world, device):
        distributed.check_same(world, str(loaded.file))
        settings, on_format = for_trained(settings, given, world, device)
        parts = build_data(settings, [split], loaded.labels)
        objective = loaded.objective(settings, parts.task).to(device)
        maker = BatchMaker(parts, split, settings, loaded.labels)
        with distributed.peers_watched(world), workers_watched(settings.data.path):
            found = find_over(objective, maker, world, device, with_answers=True, advance=advance)
    assert found is not None  # nobody asked it to stop
    masker = settings.masker
    metrics = metrics_of(parts.task, found, maker.source)
    measure = parts.task.measure(found.answers, maker.source) if found.answers else None
    targets = int(sum(found.totals[f"{name}_count"] for name in objective.criterion.weights))
    result = {
        **metrics,
        "targets": targets,
        "tokens": int(found.totals["tokens"]),
        "rows": len(maker.source),
        **({"examples": measure.size} if measure else {}),
        "split": split,
        "masker": None if masker is None else {"name": masker.name, **dataclasses.asdict(masker.options)},
        "checkpoint": str(Path(loaded.file)),
        "step": loaded.step,
        "precision": settings.train.precision,
    }
    warning = undefined(metrics, targets, split)
    of_metrics = (*(measure.notes if measure else ()), *([warning] if warning else []))
    return Evaluation(metrics, result, measure, found.answers, (*on_format, *parts.notes, *of_metrics), of_metrics)


def evaluate(
    source: str,
    data: str | Mapping[str, Any] = "",
    split: str = "valid",
    overrides: Iterable[Assignment] = (),
    advance: Callable[[int], Any] = lambda rows: None,
    **sections: Any,
) -> dict[str, Any]:
    """Returns the metrics of a checkpoint on a split of a dataset, with intervals.

    Args:
        source: a run folder (its best checkpoint) or one checkpoint.
        data: dataset folder, or settings of the section; where none is given, that of the run.
        split: name of the split.
        overrides: settings that differ from the run's, as flags or files give them.
        advance: called with the rows of each batch that is done.
        sections: the same in Python: `masker="span"`, `masker={"name": "span", "ratio": 0.3}`, `train={...}`.

    Returns:
        {"loss": ..., "accuracy": ..., "intervals": {"accuracy": (low, high), ...}, "targets": ..., "rows": ..., ...};
        the 95 % intervals are over examples, as of `metrics.limits`. An example is a document, with all of its rows and
        all masks of each row; of a labelled task a labelled text, a sentence, or a question with all of its windows. A
        metric that is undefined, such as the loss if nothing is to be predicted, is NaN.

    Raises:
        CheckpointError: the checkpoint is damaged or was made with another vocabulary than the dataset.
        DataError: there is no such split, or a label that the model does not know.
    """
    found = examine(source, data, split, overrides, advance, **sections)
    for note in found.notes:
        if note.startswith("warning: "):
            say(note)
    return {**found.result, "intervals": intervals(found.measure) if found.measure else {}}
