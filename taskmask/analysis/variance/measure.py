"""How much the choice of masks makes the trainer's gradient vary, apart from the choice of rows: policies side by side.

Shapes: R rows, G groups of weights, W distances between two masks.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from taskmask.analysis.inspect.inspection import columns_of, read_policies, spread
from taskmask.analysis.inspect.mask_stats import Policy
from taskmask.analysis.reporting.html import frame
from taskmask.analysis.variance.gradients import Gradients, Subject, collect
from taskmask.analysis.variance.records import Figures, Measured, PolicyVariance
from taskmask.analysis.variance.render import figures_of, lines_of, page_of
from taskmask.analysis.views import Windows, windows
from taskmask.data.dataset import Dataset, Split
from taskmask.data.sequences.base import Source
from taskmask.errors import CheckpointError, ConfigError, DataError
from taskmask.inference import loaded_model
from taskmask.registry import TASKS
from taskmask.stats.gradient_moments import APART, Added, Sums, distance_forms, forms_of, interval
from taskmask.tasks.base import Task
from taskmask.training import distributed
from taskmask.training.optim import freeze

USUAL = ("uniform", "whole_word", "span", "fully_explored")


class Variance(Measured):
    """What was measured at one checkpoint; shows itself as a page in a notebook."""

    def to_dict(self) -> dict[str, Any]:
        """Returns the figures as JSON types."""
        return figures_of(self)

    def lines(self) -> list[str]:
        """Returns lines for the terminal."""
        return lines_of(self)

    def _repr_html_(self) -> str:
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
    """Measures how much masks make the gradient of a run vary: that of its own criterion, without dropout.

    Args:
        source: run folder or checkpoint of a task that masks tokens.
        maskers: policies, "name option=value ..."; the first is the baseline [uniform, whole_word, span,
            fully_explored].
        data: dataset folder; that of the run where none is given.
        split: split of the dataset ["train"].
        rows: rows to look at, spread over the split.
        draws: independent draws of the masks of each row.
        seed: of the masks.
        project: length of the sketch of a group's gradient, to save memory; 0: the gradients themselves.
        advance: called with the rows that are done.

    Raises:
        CheckpointError: the checkpoint is damaged, masks nothing, or knows another vocabulary.
        ConfigError: an unknown masker, an option that it does not have, or a count that makes no sense.
        DataError: the dataset has no such split, or too few rows.
    """
    for name, value, least in (("rows", rows, 2), ("draws", draws, 2), ("project", project, 0)):
        if value < least:
            raise ConfigError(f"is {value}", where=f"--{name}", expected=f"{least} or more")
    loaded = loaded_model.load(source)
    settings = loaded.settings
    if settings.masker is None:
        what, fix = f"was trained for {settings.task.name} without masks", "name a run of masked_lm or denoising, say"
        raise CheckpointError(what, where=str(loaded.file), expected="a task that masks tokens", fix=fix)
    path = data or settings.data.path
    dataset = loaded.dataset(data)
    loaded.check_vocabulary(path)
    part = dataset.split(split or "train")
    policies = read_policies(maskers or USUAL, loaded.vocab)
    probe = windows(policies[0].masker.config.ratio_at(1.0), loaded.vocab)
    subjects = [_subject_of(loaded, dataset, one) for one in [*policies, Policy("windows", probe)]]
    source_of_rows = _rows_of(loaded, dataset, part, policies, subjects[0].task)
    ids = spread(len(source_of_rows), rows)
    if len(ids) < 2:
        raise DataError(f"has {len(ids)} rows", where=f"{path}, split {part.name}", expected="two or more")
    with distributed.joined(settings.run) as (_, device):
        freeze(objective := loaded.objective(settings, subjects[0].task).to(device), settings.optim.freeze)
        gradients = Gradients(objective, device, project)
        found = collect(gradients, subjects, source_of_rows, ids, draws, seed, advance)
    tokens, sketched = int(source_of_rows.lengths[ids].sum()), f"; sketches of {project:,}" if project else ""
    about = f"{loaded.file}, step {loaded.step:,}; {path}, split {part.name}: {len(ids)} rows, {tokens:,} tokens, "
    about += f"{draws} draws of each{sketched}; loss of {settings.task.name}: {gradients.loss}"
    apart = by_distance(found[-1], probe, np.array([source_of_rows[row].maskable.sum() for row in ids[:, None]]))
    return Variance(about, loaded.step, summarised(found[:-1], gradients.names), *apart)


def _subject_of(loaded: loaded_model.Pretrained, dataset: Dataset, policy: Policy) -> Subject:
    """Returns a policy with the task of the run, whose masker it is."""
    settings = loaded.settings
    task = TASKS.get(settings.task.name).make(settings.task.options, loaded.vocab, policy.masker, loaded.labels)
    task.prepare(dataset)
    masks, views = policy.masker.views, task.views
    forms = distance_forms(masks, views) if isinstance(policy.masker, Windows) else forms_of(views)
    return Subject(policy.name, task, forms)


def _rows_of(
    loaded: loaded_model.Pretrained, dataset: Dataset, part: Split, policies: Sequence[Policy], task: Task
) -> Source:
    """Returns the rows as the run reads them, with the columns that any of the policies reads."""
    columns_of(policies, part)
    reader, task = copy.copy(policies[0].masker), copy.copy(task)
    reader.columns = tuple(dict.fromkeys(name for policy in policies for name in policy.masker.columns))
    task.masker = reader
    return task.source(part, loaded.settings.data, dataset)


def summarised(found: Sequence[Sums], names: Sequence[str]) -> list[PolicyVariance]:
    """Returns the figures of policies; the first is the baseline.

    Args:
        found: of each policy.
        names: of the groups of weights.
    """
    summaries, added = [], [Added.of(sums) for sums in found]
    usual = added[0].views * added[0].masks().mean() or float("nan")
    for one in added:
        summaries.append(
            PolicyVariance(
                policy=one.policy,
                views=one.views,
                targets=one.targets,
                figures=_figures(one, added[0], slice(None)),
                by_group={name: _figures(one, added[0], slice(g, g + 1)) for g, name in enumerate(names)},
                by_row=one.views * one.masks() / usual,
            )
        )
    return summaries


def _figures(one: Added, baseline: Added, groups: slice) -> Figures:
    """Returns the figures of a policy at some groups of weights."""
    masks, masks_0 = (of.masks(groups) for of in (one, baseline))
    rows, rows_0 = (of.rows(groups) for of in (one, baseline))
    bias = np.zeros(len(rows)) if one is baseline else one.distance(baseline, groups)
    return Figures(
        masks=interval(masks),
        rows=interval(rows),
        share=interval(masks, masks + rows),
        mask_pass=interval(one.views * masks, baseline.views * masks_0),
        whole_pass=interval(one.views * (masks + rows), baseline.views * (masks_0 + rows_0)),
        independent=interval(masks, one.masks(groups, APART)),
        bias=interval(bias, masks_0),
    )


def by_distance(found: Sums, masker: Windows, totals: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns distances, correlations and theory of the pairs of windows, on average over all that are equally apart.

    Args:
        found: of the windows, with `distance_forms`.
        masker: the windows.
        totals: int [R], tokens of each row that can be masked.

    **Source:** derived for Zheng et al. 2020 (arXiv 2010.06040): gradients that are sums over the m masked of n tokens
    have the covariance s^2 (1 - H n / (2 m (n - m))), H being the Hamming distance and s^2 the variance of a mask.
    """
    added = Added.of(found)
    begins, size = masker.places(totals)
    hamming = 2 * np.minimum(abs(begins[:, None] - begins), size)  # [W, W, R]
    hamming = np.einsum("fvw,vwr->fr", found.forms[:, : len(begins), : len(begins)], hamming)
    there = np.maximum(size, 1)
    lines = 1 - hamming * totals / (2 * there * np.maximum(totals - size, 1))
    own = added.masks()
    covariances = [added.masks(form=form) for form in range(len(hamming))]
    intervals = np.array([interval(one, own) for one in covariances]).T
    theory = np.array([interval(own * line, own)[0] for line in lines])
    return (hamming / (2 * there)).sum(axis=1) / max((size > 0).sum(), 1), intervals, theory
