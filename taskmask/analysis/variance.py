"""How much the choice of masks makes the gradient vary, apart from the choice of rows: policies side by side.

Shapes: R rows, D draws of a row, K views of a draw, G groups of weights.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from taskmask.analysis.gradients import Gradients, Products, collect, windows
from taskmask.analysis.inspect import columns_of, read_policies, spread
from taskmask.analysis.moments import Moments, moments, pair_covariances, ratio_interval, variance_of_rows
from taskmask.analysis.page import frame
from taskmask.data.columns import Dataset
from taskmask.data.source import RowSource
from taskmask.errors import CheckpointError, ConfigError, DataError
from taskmask.training import distributed, pretrained

SHORTEST = 16  # tokens that can be masked: shorter rows have empty masks
USUAL = ("uniform", "whole_word", "span", "fully_explored")
Interval = tuple[float, float, float]
"""A value, and the ends of its interval."""


@dataclass(frozen=True)
class PolicyVariance:
    """The gradient of one policy; variances are sums over all weights, means over rows.

    Attributes:
        policy: its name.
        views: masks of an update, so forward passes of a row.
        targets: masked tokens of an update of one row.
        update: variance of an update that masks cause.
        pass_ratio: the same at the cost of a forward pass (times `views`), as a multiple of the baseline's.
        independent_ratio: the same, as a multiple of that of as many independent masks; 1 with one view.
        rows: variance that rows cause.
        bias: squared distance of a row's mean gradient from the baseline's, as a multiple of the baseline's variance.
        by_group: {group of weights: (`update` of it, its `pass_ratio`, its `independent_ratio`)}.
        by_row: float64 [R], `pass_ratio` of each row, against the mean of the baseline.
    """

    policy: str
    views: int
    targets: float
    update: float
    pass_ratio: Interval
    independent_ratio: Interval
    rows: float
    bias: Interval
    by_group: dict[str, tuple[float, float, float]]
    by_row: np.ndarray

    @property
    def share(self) -> float:
        """Share of the masks in the variance of an update of one row."""
        return self.update / (self.update + self.rows) if self.update + self.rows > 0 else float("nan")


@dataclass
class Variance:
    """What was measured at one checkpoint; shows itself as a page in a notebook.

    Attributes:
        about: what was looked at.
        step: steps of the checkpoint.
        policies: the first is the baseline.
        distances: float [W], Hamming distances of two uniform masks, as shares of the largest.
        correlations: float [3, W], correlation of their gradients, and the ends of its interval.
        theory: float [W], that of gradients which are sums over the masked tokens.
    """

    about: str
    step: int
    policies: list[PolicyVariance]
    distances: np.ndarray
    correlations: np.ndarray
    theory: np.ndarray

    def to_dict(self) -> dict[str, Any]:
        """Returns the figures as JSON types."""
        from taskmask.analysis.variance_page import figures_of

        return figures_of(self)

    def lines(self) -> list[str]:
        """Returns lines for the terminal."""
        from taskmask.analysis.variance_page import lines_of

        return lines_of(self)

    def _repr_html_(self) -> str:
        from taskmask.analysis.variance_page import page_of

        return frame(page_of([self]), "Variance of the gradient")


def variance(
    source: str,
    maskers: Sequence[str] = (),
    *,
    data: str = "",
    split: str = "",
    rows: int = 32,
    draws: int = 4,
    seed: int = 1,
    project: int = 0,
    advance: Callable[[int], object] = lambda rows: None,
) -> Variance:
    """Measures how much masks make the gradient of a model vary.

    Args:
        source: run folder or checkpoint of a masked language model.
        maskers: policies, "name option=value ..."; the first is the baseline [uniform, whole_word, span,
            fully_explored].
        data: dataset folder; that of the run where none is given.
        split: split of the dataset ["train"].
        rows: rows to look at, spread over the split; those with fewer than 16 tokens to mask are left out.
        draws: independent draws of the masks of each row.
        seed: of the masks.
        project: length of the sketch of a group's gradient, to save memory; 0: the gradients themselves.
        advance: called with the rows that are done.

    Raises:
        CheckpointError: the checkpoint is damaged, is no masked language model, or knows another vocabulary.
        ConfigError: an unknown masker, an option that it does not have, or a count that makes no sense.
        DataError: the dataset has no such split, or too few rows.
    """
    for name, value, least in (("rows", rows, 2), ("draws", draws, 2), ("project", project, 0)):
        if value < least:
            raise ConfigError(f"is {value}", where=f"--{name}", expected=f"{least} or more")
    loaded = pretrained.load(source)
    task, settings = loaded.task(), loaded.settings
    if "mlm" not in task.heads() or task.masker is None:
        what = f"was trained for {settings.task.name} and says nothing of masked tokens"
        raise CheckpointError(what, where=str(loaded.file), expected="a masked language model")
    path = data or settings.data.path
    dataset = Dataset.open(path)
    loaded.check_vocabulary(path)
    policies = read_policies(maskers or USUAL, loaded.vocab)
    part = dataset.split(split or "train")
    read = columns_of(policies, part)
    source_of_rows = RowSource(part, loaded.vocab, settings.data.length, settings.data.blocks, read)
    ids = spread(len(source_of_rows), rows)
    ids = ids[[bool(source_of_rows[ids[n : n + 1]].maskable.sum() >= SHORTEST) for n in range(len(ids))]]
    if len(ids) < 2:
        what = f"has {len(ids)} rows of {SHORTEST} tokens or more among the {rows} that were looked at"
        raise DataError(what, where=f"{path}, split {part.name}", fix="raise --rows, or name another split")
    _, device = distributed.join(settings.run)
    gradients = Gradients(loaded.objective(settings, task).to(device), task, device, project)
    probe = windows(policies[0].masker.config.ratio_at(1.0), loaded.vocab)
    found = collect(gradients, [*policies, probe], source_of_rows, ids, draws, seed, advance)
    distributed.leave()
    tokens = int(source_of_rows.lengths[ids].sum())
    about = f"{loaded.file}, step {loaded.step:,}; {path}, split {part.name}: {len(ids)} rows, {tokens:,} tokens, "
    about += f"{draws} draws of each" + (f"; sketches of {project:,}" if project else "")
    return Variance(about, loaded.step, summarised(found[:-1], gradients.names), *_by_distance(found[-1]))


def summarised(found: Sequence[Products], names: Sequence[str]) -> list[PolicyVariance]:
    """Returns what the inner products of policies say; the first policy is the baseline.

    Args:
        found: of each policy.
        names: of the groups of weights.
    """
    in_all = [_moments(one.products.sum(axis=0), one.counts) for one in found]
    by_group = [[_moments(one.products[g], one.counts) for g in range(len(names))] for one in found]
    baseline = np.array([one.update for one in in_all[0]])
    of_rows = []
    for one, own, groups in zip(found, in_all, by_group, strict=True):
        update, view = (np.array([getattr(m, name) for m in own]) for name in ("update", "view"))
        squares, others = (np.array([m.square for m in these]) for these in (own, in_all[0]))
        is_baseline = one is found[0]
        away = np.zeros(len(own)) if is_baseline else squares + others - 2 * one.with_baseline.sum(axis=0)
        observed = np.array([_observed(p, c) for p, c in zip(one.products.sum(axis=0), one.counts, strict=True)])
        parts = {}
        for name, these, those in zip(names, groups, by_group[0], strict=True):
            mine, theirs, views = (
                float(np.mean([getattr(m, field) for m in of]))
                for field, of in (("update", these), ("update", those), ("view", these))
            )
            parts[name] = mine, _ratio(one.views * mine, theirs), _ratio(one.views * mine, views)
        of_rows.append(
            PolicyVariance(
                policy=one.policy,
                views=one.views,
                targets=float(one.counts.sum(axis=2).mean()),
                update=float(update.mean()),
                pass_ratio=ratio_interval(one.views * update, baseline),
                independent_ratio=ratio_interval(one.views * update, view),
                rows=variance_of_rows(squares, observed, float(one.of_sum.sum())),
                bias=ratio_interval(away, baseline),
                by_group=parts,
                by_row=one.views * update / (baseline.mean() or float("nan")),
            )
        )
    return of_rows


def _moments(products: np.ndarray, counts: np.ndarray) -> list[Moments]:
    return [moments(p, c) for p, c in zip(products, counts, strict=True)]


def _observed(products: np.ndarray, counts: np.ndarray) -> float:
    """Returns the squared length of the mean over the draws that were made."""
    weights = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1) / len(counts)
    return float(np.einsum("dk,dkel,el->", weights, products, weights))


def _ratio(numerator: float, denominator: float) -> float:
    return numerator / denominator if denominator else float("nan")


def _by_distance(found: Products) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns distances, correlations and theory of the pairs of windows."""
    products, steps = found.products.sum(axis=0), found.views
    sums, theory = np.zeros((len(products), steps)), np.zeros((len(products), steps))
    for row, (of_row, counts, masks) in enumerate(zip(products, found.counts, found.chosen, strict=True)):
        pairs, covariances = pair_covariances(of_row)
        far = abs(pairs[:, 0] - pairs[:, 1])
        sums[row] = np.bincount(far, covariances) / np.bincount(far)
        size, total = counts.mean(), found.maskable[row]
        distance = np.array([(masks[:, 0] ^ masks[:, n]).sum(axis=1).mean() for n in range(steps)])
        theory[row] = 1 - distance * total / (2 * size * max(total - size, 1))
    intervals = np.array([ratio_interval(sums[:, n], sums[:, 0]) for n in range(steps)]).T
    return np.arange(steps) / (steps - 1), intervals, theory.mean(axis=0)
