"""What an experiment found, as plain records: what `compare` gathers and its reports show."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from taskmask.stats.bootstrap import Measure, Resampled, resample


@dataclass(frozen=True)
class Cost:
    """What a stage took; costs of stages add up. All are floats, whether they were counted or read from a file.

    Args:
        updates: optimizer steps.
        tokens: tokens seen, all views counted, padding not.
        targets: tokens that a loss asked for; in masked language modelling those that were masked.
        flops: floating-point operations, estimated from the shape of the model.
        seconds: wall time of training, validations included.
    """

    updates: float = 0
    tokens: float = 0
    targets: float = 0
    flops: float = 0.0
    seconds: float = 0.0

    def __post_init__(self) -> None:
        for name in self.__dataclass_fields__:
            object.__setattr__(self, name, float(getattr(self, name)))

    def __add__(self, other: Cost) -> Cost:
        return Cost(*(getattr(self, name) + getattr(other, name) for name in self.__dataclass_fields__))


@dataclass(frozen=True)
class Scores:
    """What the models of one policy scored on one task, or as language models under one masker.

    Args:
        of: name of the labelled task, or of the masker whose frozen masks they were scored on.
        policy: name of the policy; "" for models without an intermediate stage.
        share: share of the intermediate stage that was over, 0 to 1; 0 where there was none.
        measures: {seed: what its model answered}; seeds whose stage failed are lacking.
    """

    of: str
    policy: str
    share: float
    measures: dict[int, Measure]


@dataclass(frozen=True)
class Failure:
    """A stage that failed; the experiment went on without it.

    Args:
        stage: "intermediate", or "fine-tuning TASK".
        policy: name of the policy.
        seed: of the stage.
        message: the last words of the stage.
        folder: its run folder.
    """

    stage: str
    policy: str
    seed: int
    message: str
    folder: str


@dataclass(frozen=True)
class Asked:
    """A labelled task, or a masker under which language models are scored.

    Args:
        name: of the task, or of the masker.
        metric: the metric that counts.
        is_lower_better: whether less of it is better.
        split: where it is measured.
    """

    name: str
    metric: str
    is_lower_better: bool
    split: str


@dataclass(frozen=True)
class Results:
    """All that an experiment found.

    Args:
        name: of the experiment.
        baseline: the policy that the others are compared with.
        policies: names of all policies, in the order of the file.
        seeds: in the order of the file.
        budget: what is equal for all policies: "steps", "targets" or "flops".
        tasks: the labelled tasks.
        maskers: the maskers under whose frozen masks the language models were scored.
        scores: of the fine-tuned models, one for each task, policy and share.
        language_models: of the models at the end of the intermediate stage, one for each masker and policy.
        costs: {policy: {seed: cost of its intermediate stage}}.
        finetuning: {task: {(policy, seed): cost of fine-tuning after the whole intermediate stage}}.
        pretraining: cost of the general pre-training, where it was a part of the experiment.
        failures: stages that failed.
        repeat: what is needed to repeat it: settings of every kind of stage, versions, fingerprints; JSON types.
    """

    name: str
    baseline: str
    policies: Sequence[str]
    seeds: Sequence[int]
    budget: str
    tasks: Sequence[Asked]
    maskers: Sequence[Asked]
    scores: Sequence[Scores]
    language_models: Sequence[Scores]
    costs: dict[str, dict[int, Cost]]
    finetuning: dict[str, dict[tuple[str, int], Cost]] = field(default_factory=dict)
    pretraining: Cost | None = None
    failures: Sequence[Failure] = ()
    repeat: dict[str, Any] = field(default_factory=dict)

    @cached_property
    def _drawn(self) -> dict[tuple[bool, str, str, float], dict[int, Resampled]]:
        return {}

    def runs_of(self, asked: Asked, policy: str, share: float = 1.0) -> dict[int, Resampled]:
        """Returns {seed: what its model answered, on the same resamples of the examples for all}, each drawn once.

        Args:
            asked: one of `tasks` or `maskers`.
            policy: name of the policy; "" for models without an intermediate stage.
            share: of the intermediate stage.

        Returns:
            Empty where nothing was measured.
        """
        is_task = any(one is asked for one in self.tasks)
        key = is_task, asked.name, policy, share
        if key not in self._drawn:
            of = self.scores if is_task else self.language_models
            found = [one.measures for one in of if (one.of, one.policy, one.share) == (asked.name, policy, share)]
            measures = found[0] if found else {}
            self._drawn[key] = {seed: resample(measure) for seed, measure in sorted(measures.items())}
        return self._drawn[key]

    def mean_cost(self, policy: str) -> Cost | None:
        """Returns what the intermediate stage of a policy cost, the mean of its seeds; None where all failed."""
        return mean_cost(self.costs.get(policy, {}).values())


def mean_cost(costs: Iterable[Cost]) -> Cost | None:
    """Returns the mean of costs; None of none."""
    found = list(costs)
    total = sum(found, Cost())
    return Cost(*(getattr(total, name) / len(found) for name in Cost.__dataclass_fields__)) if found else None
