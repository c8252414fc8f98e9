"""From stages and measures to the plain records of `Results`."""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import numpy
import torch

from taskmask import __version__
from taskmask.analysis.compare.planner import Planner, Stage, plug_ins_of
from taskmask.analysis.compare.predictions import COMMON_MASKERS, Question
from taskmask.analysis.compare.results import Asked, Cost, Failure, Results, Scores
from taskmask.analysis.compare.stage import Done
from taskmask.stats.bootstrap import Measure
from taskmask.system.hardware import num_threads


def gather(
    planner: Planner,
    stages: Sequence[Stage],
    done: Mapping[str, Done],
    answered: Sequence[tuple[Question, Measure]],
) -> Results:
    """Returns all that an experiment found.

    Args:
        planner: of the experiment.
        stages: its stages.
        done: {digest of a stage: what came of it}.
        answered: what the models were asked, and what they answered.
    """
    experiment = planner.experiment
    ended = {stage.digest: done[stage.digest].cost for stage in stages if _is_well(stage, done)}
    costs: dict[str, dict[int, Cost]] = {name: {} for name in planner.policies}
    finetuning: dict[str, dict[tuple[str, int], Cost]] = {name: {} for name in experiment.tasks}
    for stage in stages:
        if stage.digest in ended and stage.kind == "intermediate":
            costs[stage.policy][stage.seed] = ended[stage.digest]
        if stage.digest in ended and stage.kind == "finetuning" and stage.policy and stage.share == 1:
            finetuning[stage.task][stage.policy, stage.seed] = ended[stage.digest]
    of_tasks = [pair for pair in answered if pair[0].stage.task]
    of_models = [pair for pair in answered if not pair[0].stage.task]
    models = _scores(of_models)
    return Results(
        name=experiment.name,
        baseline=experiment.baseline,
        policies=tuple(planner.policies),
        seeds=experiment.seeds,
        budget=experiment.budget,
        tasks=[_asked(planner, name) for name in experiment.tasks],
        maskers=[Asked(name, "loss", True, "valid") for name in COMMON_MASKERS if any(s.of == name for s in models)],
        scores=_scores(of_tasks),
        language_models=models,
        costs=costs,
        finetuning=finetuning,
        pretraining=None if experiment.start else ended.get(stages[0].digest),
        failures=_failures(stages, done),
        repeat=needed_to_repeat(planner, stages),
    )


def _is_well(stage: Stage, done: Mapping[str, Done]) -> bool:
    return stage.digest in done and not done[stage.digest].failure


def _asked(planner: Planner, name: str) -> Asked:
    settings = planner.experiment.finetuning(name, planner.experiment.first)
    task = planner.measured(settings).parts.task
    metric = settings.train.metric or task.best
    return Asked(name, metric, task.direction(metric) == "min", planner.splits[name])


def _scores(answered: Sequence[tuple[Question, Measure]]) -> list[Scores]:
    """Brings the seeds of a task or masker, policy and share together."""
    found: dict[tuple[str, str, float], dict[int, Measure]] = {}
    for question, measure in answered:
        stage = question.stage
        found.setdefault((question.of, stage.policy, stage.share), {})[stage.seed] = measure
    return [Scores(*key, measures) for key, measures in found.items()]


def _failures(stages: Sequence[Stage], done: Mapping[str, Done]) -> list[Failure]:
    """Returns the stages that failed themselves; those that depend on them are not there."""
    return [
        Failure(
            f"fine-tuning {stage.task}" if stage.task else stage.kind,
            stage.policy,
            stage.seed,
            done[stage.digest].failure,
            str(stage.folder),
        )
        for stage in stages
        if stage.digest in done and done[stage.digest].failure
    ]


def needed_to_repeat(planner: Planner, stages: Sequence[Stage]) -> dict[str, Any]:
    """Returns what is needed to repeat an experiment: file, settings, versions, fingerprints, folders; JSON types."""
    experiment = planner.experiment
    first = experiment.first
    data = {one.data.path: planner.measured(one).parts for one in planner.policies.values()}
    tuned = {name: experiment.finetuning(name, first) for name in experiment.tasks}
    data |= {one.data.path: planner.measured(one).parts for one in tuned.values()}
    return {
        "experiment": experiment.tables,
        "seeds": list(experiment.seeds),
        "steps": {name: one.train.steps for name, one in planner.policies.items()},
        "settings": {
            **({} if experiment.start else {"pre-training": first.to_dict()}),
            **{f"intermediate {name}": one.to_dict() for name, one in planner.policies.items()},
            **{f"fine-tuning {name}": one.to_dict() for name, one in tuned.items()},
        },
        "versions": {
            "taskmask": __version__,
            "torch": str(torch.__version__),
            "numpy": numpy.__version__,
            "python": sys.version.split()[0],
            "platform": platform.platform(),
        },
        "threads": experiment.run.threads or num_threads(int(os.environ.get("LOCAL_WORLD_SIZE", "1"))),
        "data": {
            path: {"rows": parts.fingerprint, "vocabulary": parts.vocab.fingerprint} for path, parts in data.items()
        },
        **(
            {"start": {"file": str(experiment.start.file), "sha256": experiment.start.sha256}}
            if experiment.start
            else {}
        ),
        "plug_ins": {path: sha for stage in stages for path, sha in plug_ins_of(stage.settings).items()},
        "stages": {stage.title: stage.folder.name for stage in stages},
    }
