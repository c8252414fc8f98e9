"""How much the choice of masks makes the gradient vary, apart from the choice of rows: policies side by side.

Shapes: R rows, D draws of a row, K views of a draw, G groups of weights.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from taskmask.analysis.gradients import Gradients, Products, collect, windows
from taskmask.analysis.inspect import columns_of, read_policies, spread
from taskmask.analysis.moments import interval, moments, pair_covariances, variance_of_rows
from taskmask.analysis.page import frame
from taskmask.data.columns import Dataset, Split
from taskmask.data.source import Examples, RowSource, Source
from taskmask.errors import CheckpointError, ConfigError, DataError
from taskmask.registry import CRITERIA, TASKS
from taskmask.settings import Component, Settings
from taskmask.tasks.base import Task
from taskmask.training import distributed, pretrained
from taskmask.training.parts import build_task

SHORTEST = 16  # tokens that can be masked: shorter rows have empty masks
USUAL = ("uniform", "whole_word", "span", "fully_explored")
Interval = tuple[float, float, float]
"""A value, and the ends of its interval."""


@dataclass(frozen=True)
class Figures:
    """The gradient of one policy at all weights or at a group of them; variances are sums over the weights.

    All are means over rows, or ratios of two, with their intervals over rows.

    Attributes:
        masks: variance of an update of one row that masks cause.
        rows: variance that rows cause.
        share: `masks` as a share of both.
        mask_pass: `masks` at the cost of a forward pass (times the passes), as a multiple of the baseline's.
        whole_pass: the variance of the whole gradient, of masks and rows together, in the same way.
        independent: `masks` as a multiple of that of as many independent masks; 1 with one view.
        bias: squared distance of a row's mean gradient from the baseline's, as a multiple of the baseline's `masks`.
    """

    masks: Interval
    rows: Interval
    share: Interval
    mask_pass: Interval
    whole_pass: Interval
    independent: Interval
    bias: Interval


@dataclass(frozen=True)
class PolicyVariance:
    """The gradient of one policy.

    Attributes:
        policy: its name.
        views: masks of an update, so forward passes of a row.
        targets: masked tokens of an update of one row.
        figures: of all weights.
        by_group: {group of weights: figures of it}.
        by_row: float64 [R], `mask_pass` of each row, against the mean of the baseline.
    """

    policy: str
    views: int
    targets: float
    figures: Figures
    by_group: dict[str, Figures]
    by_row: np.ndarray


@dataclass
class Variance:
    """What was measured at one checkpoint; shows itself as a page in a notebook.

    Attributes:
        about: what was looked at.
        step: steps of the checkpoint.
        policies: the first is the baseline.
        distances: float [W], mean Hamming distances of two uniform masks, as shares of the largest.
        correlations: float [3, W], correlation of their gradients, and the ends of its interval.
        theory: float [W], the correlation of gradients which are sums over the masked tokens.
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
        source: run folder or checkpoint of a masked language model; what else it learns, such as labels, is left out.
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
    settings = as_masked_lm(loaded)
    task = build_task(settings, loaded.vocab, loaded.labels)
    path = data or settings.data.path
    dataset = Dataset.open(path)
    loaded.check_vocabulary(path)
    policies = read_policies(maskers or USUAL, loaded.vocab)
    part = dataset.split(split or "train")
    read = columns_of(policies, part)
    source_of_rows = _rows_of(loaded, part, read)
    ids = spread(len(source_of_rows), rows)
    ids = np.array([n for n in ids if source_of_rows[np.array([n])].maskable.sum() >= SHORTEST])
    if len(ids) < 2:
        what = f"has {len(ids)} rows of {SHORTEST} tokens or more among the {rows} that were looked at"
        raise DataError(what, where=f"{path}, split {part.name}", fix="raise --rows, or name another split")
    _, device = distributed.join(settings.run)
    gradients = Gradients(loaded.objective(settings, task).to(device), task, device, project)
    probe = windows(policies[0].masker.config.ratio_at(1.0), loaded.vocab)
    found = collect(gradients, [*policies, probe], source_of_rows, ids, draws, seed, advance)
    distributed.leave()
    tokens, sketched = int(source_of_rows.lengths[ids].sum()), f"; sketches of {project:,}" if project else ""
    about = f"{loaded.file}, step {loaded.step:,}; {path}, split {part.name}: {len(ids)} rows, {tokens:,} tokens, "
    about += f"{draws} draws of each{sketched}"
    if settings is not loaded.settings:
        about += f"; of {loaded.settings.task.name} masked language modelling alone"
    return Variance(about, loaded.step, summarised(found[:-1], gradients.names), *by_distance(found[-1]))


def _rows_of(loaded: pretrained.Pretrained, part: Split, columns: tuple[str, ...]) -> Source:
    """Returns the rows that the model was trained on: of plain text, or, beside labels, a text each."""
    data = loaded.settings.data
    if type(loaded.task()).source is Task.source:
        return RowSource(part, loaded.vocab, data.length, data.blocks, columns)
    return Examples(part, loaded.vocab, data.length, columns=columns)


def as_masked_lm(loaded: pretrained.Pretrained) -> Settings:
    """Returns the settings of a checkpoint as of plain masked language modelling: what else it learns is left out.

    Raises:
        CheckpointError: it is no masked language model.
    """
    settings, plain = loaded.settings, TASKS.get("masked_lm")
    task = loaded.task()
    if not isinstance(task, plain.load()) or "mlm" not in task.heads():
        what = f"was trained for {settings.task.name} and says nothing of masked tokens"
        raise CheckpointError(what, where=str(loaded.file), expected="a masked language model")
    if settings.task.name == plain.name:
        return settings
    shared = {field.name: getattr(settings.task.options, field.name) for field in dataclasses.fields(plain.config)}
    criterion = Component("masked_lm", CRITERIA.get("masked_lm").config())
    return dataclasses.replace(settings, task=Component(plain.name, plain.config(**shared)), criterion=criterion)


def summarised(found: Sequence[Products], names: Sequence[str]) -> list[PolicyVariance]:
    """Returns what the inner products of policies say; the first policy is the baseline.

    Args:
        found: of each policy.
        names: of the groups of weights.
    """
    summaries = []
    for one in found:
        update, baseline = (_of_rows(these, slice(None))[0] for these in (one, found[0]))
        summaries.append(
            PolicyVariance(
                policy=one.policy,
                views=one.views,
                targets=float(one.counts.sum(axis=2).mean()),
                figures=_figures(one, found[0], slice(None)),
                by_group={name: _figures(one, found[0], slice(g, g + 1)) for g, name in enumerate(names)},
                by_row=one.views * update / (found[0].views * baseline.mean() or float("nan")),
            )
        )
    return summaries


def _figures(one: Products, baseline: Products, groups: slice) -> Figures:
    """Returns the figures of a policy at some groups of weights."""
    (masks, view, square, rows), (masks_0, _, square_0, rows_0) = (_of_rows(p, groups) for p in (one, baseline))
    bias = square + square_0 - 2 * one.with_baseline[groups].sum(axis=0)
    return Figures(
        masks=interval(masks),
        rows=interval(rows),
        share=interval(masks, masks + rows),
        mask_pass=interval(one.views * masks, baseline.views * masks_0),
        whole_pass=interval(one.views * (masks + rows), baseline.views * (masks_0 + rows_0)),
        independent=interval(one.views * masks, view),
        bias=interval(np.zeros(len(bias)) if one is baseline else bias, masks_0),
    )


def _of_rows(found: Products, groups: slice) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Returns of each row, float64 [R]: variance of an update, of a view, squared length, part of `rows`."""
    products = found.products[groups].sum(axis=0)
    each = [moments(p, c) for p, c in zip(products, found.counts, strict=True)]
    update, view, square = (np.array([getattr(m, name) for m in each]) for name in ("update", "view", "square"))
    observed = np.array([_observed(p, c) for p, c in zip(products, found.counts, strict=True)])
    return update, view, square, variance_of_rows(found.away[groups].sum(axis=0), square, observed)


def _observed(products: np.ndarray, counts: np.ndarray) -> float:
    """Returns the squared length of the mean over the draws that were made."""
    weights = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1) / len(counts)
    return float(np.einsum("dk,dkel,el->", weights, products, weights))


def by_distance(found: Products) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns distances, correlations and theory of the pairs of windows, on average over all that are equally apart.

    **Source:** derived for Zheng et al. 2020 (arXiv 2010.06040): gradients that are sums over the m masked of n tokens
    have the covariance s^2 (1 - H n / (2 m (n - m))), H being the Hamming distance and s^2 the variance of a mask.
    """
    products, steps = found.products.sum(axis=0), found.views
    covariances, lines, shares = np.zeros((3, len(products), steps))
    for row, (of_row, counts, masks) in enumerate(zip(products, found.counts, found.chosen, strict=True)):
        pairs, of_pairs = pair_covariances(of_row)
        far = abs(pairs[:, 0] - pairs[:, 1])
        covariances[row] = np.bincount(far, of_pairs) / np.bincount(far)
        hamming = (masks[:, pairs[:, 0]] ^ masks[:, pairs[:, 1]]).sum(axis=2).mean(axis=0)
        hamming = np.bincount(far, hamming) / np.bincount(far)
        size, total = counts.mean(), found.maskable[row]
        lines[row] = 1 - hamming * total / (2 * size * max(total - size, 1))
        shares[row] = hamming / (2 * size)
    own = covariances[:, 0]
    intervals = np.array([interval(covariances[:, n], own) for n in range(steps)]).T
    theory = np.array([interval(own * lines[:, n], own)[0] for n in range(steps)])
    return shares.mean(axis=0), intervals, theory
