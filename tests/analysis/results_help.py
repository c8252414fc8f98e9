"""Made-up results of experiments, with effects that are known."""

import itertools

import numpy as np

from taskmask.analysis.compare.results import Asked, Cost, Failure, Results, Scores
from taskmask.metrics.classification import classification_metrics
from taskmask.stats.bootstrap import Measure

TOPIC = Asked("topic", "accuracy", False, "test")
TONE = Asked("tone", "macro_f1", False, "test")


def answers(random, rate, hard, luck=0.01):
    """A run that tells `rate` of the examples right, rather those that are not `hard`."""
    skill = np.quantile(hard, min(max(rate + luck * random.normal(), 0.02), 0.98))
    right = hard + 0.3 * random.normal(size=len(hard)) < skill
    truth = np.arange(len(hard)) % 3
    guess = np.where(right, truth, (truth + 1) % 3)
    return Measure(len(hard), lambda index: classification_metrics(truth[index], guess[index], 3))


def losses(random, level, hard):
    """A language model with a mean loss of `level`."""
    rows = level + 0.2 * hard + 0.05 * random.normal(size=len(hard)) + 0.01 * random.normal()
    return Measure(len(hard), lambda index: {"loss": float(rows[index].mean()), "accuracy": 0.5})


def made_up(
    effects=(("uniform", 0.0), ("span", 0.08), ("worst", -0.12)),
    seeds=(1, 2, 3, 4, 5),
    tasks=(TOPIC, TONE),
    maskers=("uniform", "whole_word", "span"),
    points=4,
    examples=300,
    budget="steps",
    failed=(),
):
    """Results of policies {name: what it adds to the rate of right answers at the end of its stage}.

    `failed` names (stage, policy, seed) that failed; of "intermediate" all that depends on it is lacking too.
    """
    random = np.random.default_rng(0)
    hard = {asked: random.normal(size=examples) for asked in (*[task.name for task in tasks], *maskers)}
    policies = [name for name, _ in effects]
    asked = [Asked(name, "loss", True, "valid") for name in maskers]

    def there(policy, stage):
        return [seed for seed in seeds if not {("intermediate", policy, seed), (stage, policy, seed)} & {*failed}]

    scores, models = [], []
    for task in tasks:
        stage = f"fine-tuning {task.name}"
        begin = {seed: answers(random, 0.55, hard[task.name]) for seed in there("", stage)}
        scores += [Scores(task.name, "", 0.0, begin)] if begin else []
        for name, effect in effects:
            for share in np.arange(1, points + 1) / points:
                rate = 0.55 + (0.15 + effect) * share**0.5
                found = {seed: answers(random, rate, hard[task.name]) for seed in there(name, stage)}
                scores += [Scores(task.name, name, float(share), found)] if found else []
    for masker in asked:
        for name, effect in effects:
            level = 3 - effect - 0.2 * (name == masker.name)
            found = {seed: losses(random, level, hard[masker.name]) for seed in there(name, "")}
            models += [Scores(masker.name, name, 1.0, found)] if found else []
    cost = {name: Cost(1000, 2.5e7, 3.7e6, 1.25e15 * (1 + 0.3 * n), 754.0 + 60 * n) for n, name in enumerate(policies)}
    tuned = Cost(90, 1e5, 1e3, 3e12, 12)
    message = "diverged at step 31: the loss is not a number; lower --optim.lr, or raise --optim.warmup"
    return Results(
        name="made-up",
        baseline=policies[0],
        policies=policies,
        seeds=seeds,
        budget=budget,
        tasks=list(tasks),
        maskers=asked,
        scores=scores,
        language_models=models,
        costs={name: dict.fromkeys(there(name, ""), cost[name]) for name in policies},
        finetuning={task.name: dict.fromkeys(itertools.product(policies, seeds), tuned) for task in tasks},
        pretraining=Cost(20000, 5e8, 7.5e7, 2.5e16, 14000),
        failures=[Failure(stage, policy, seed, message, f"stages/{stage}-{seed}") for stage, policy, seed in failed],
        repeat={
            "seeds": list(seeds),
            "settings": {f"intermediate {name}": {"masker": {"name": name}} for name in policies},
            "versions": {"taskmask": "0.1.0", "torch": "2.9.1"},
            "threads": 2,
            "data": {"data-bin": {"rows": "a1b2", "vocabulary": "c3d4"}},
        },
    )  # fmt: skip
