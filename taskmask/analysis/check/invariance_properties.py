"""The laws of sameness: a mask is a function of seed, epoch and row, and of nothing else.

Shapes: B rows, T tokens in the longest row, K views.
"""

from __future__ import annotations

import random
import sys
from collections.abc import Callable
from dataclasses import replace

import numpy as np

from taskmask.analysis.check.bench import Bench, Wrong
from taskmask.analysis.check.cases import LONG, Case
from taskmask.data.batching import plan_epoch, this_rank
from taskmask.system.process_state import ProcessState, process_kept

WORLD_SIZES = (1, 2, 3, 6)
MICRO_BATCHES = 6  # of a step, over all processes
EPOCHS = range(1, 7)

ANEW = f"compared: {len(EPOCHS)} epochs, {len(EPOCHS)} seeds"
ROWS = "compared: rows of the same content"
BATCHES = "compared: all rows at once, backwards, with more padding, each alone"
STATES = "compared: other seeds of random, numpy and torch, a second call, a masker made anew"
WORLDS = f"compared: {', '.join(map(str, WORLD_SIZES))} processes, small and large batches, a resume"


def batches(bench: Bench, case: Case) -> Wrong | None:
    """The mask of a row is the same alone and beside others, in any order and with any padding."""
    _, whole = bench.mask(case)
    backwards = replace(case, lines=case.lines[::-1])
    for says, other, place in (
        ("with more padding", replace(case, extra=case.extra + 7), range(len(case.lines))),
        ("when the rows are in another order", backwards, range(len(case.lines))[::-1]),
    ):
        _, mask = bench.mask(other)
        if wrong := difference(whole, mask[:, list(place)], f"it is masked otherwise {says}"):
            return wrong
    for row, line in enumerate(case.lines):
        _, mask = bench.mask(replace(case, lines=(line,), extra=0))
        if wrong := difference(whole[:, row : row + 1], mask, "it is masked otherwise when it is alone in its batch"):
            return wrong._replace(row=row)
    return None


def global_state(bench: Bench, case: Case) -> Wrong | None:
    """The mask is the same whatever the state of the global generators, and in a second call; no more is changed.

    That is also its working directory, its environment, its handlers of signals and the threads of torch.
    """
    with process_kept(generators=True):
        _seed_generators(0)
        before = ProcessState.now()
        _, first = bench.mask(case)
        if changed := {**bench.changed, **dict.fromkeys(before.changes())}:
            return Wrong(0, None, f"it changes {' and '.join(changed)}")
        _, second = bench.mask(case)
        _seed_generators(1)
        _, third = bench.mask(case)
        _, anew = bench.mask(case, bench.anew(case.options))
    for mask, says in (
        (second, "a second call masks it otherwise"),
        (third, "it is masked otherwise when the global random generators are seeded otherwise"),
        (anew, "a masker that is made anew masks it otherwise"),
    ):
        if wrong := difference(first, mask, says):
            return wrong
    return None


def world_sizes(bench: Bench, case: Case) -> Wrong | None:
    """An epoch gives every row the same mask on any number of processes, in batches of any size, and after a resume."""
    lengths = np.array([len(line.content) + 2 for line in case.lines])
    views, longest = bench.made(case.options).views, int(lengths.max())
    largest = 4 * longest * views
    expected = _epoch(bench, case, lengths, largest, 1, 0)
    for max_tokens, world_size, start in (
        *((largest, size, 0) for size in WORLD_SIZES[1:]),
        (longest * views, 2, 0),
        (largest, 1, 1),
        (largest, 3, 1),
    ):
        found = _epoch(bench, case, lengths, max_tokens, world_size, start)
        for row, mask in found.items():
            said = f"with {world_size} processes" if world_size > 1 else "in one process"
            said += " after a resume" if start else f" and {max_tokens} tokens a batch"
            if wrong := difference(expected[row], mask, f"it is masked otherwise {said}"):
                return wrong._replace(row=row)
    return None


def _epoch(
    bench: Bench, case: Case, lengths: np.ndarray, max_tokens: int, world_size: int, start: int
) -> dict[int, np.ndarray]:
    """Returns {row of the case: bool [K, 1, T]} of an epoch, from step `start` on, each process with its own masker."""
    plan = plan_epoch(lengths, case.seed, case.epoch, max_tokens, bench.made(case.options).views)
    found: dict[int, np.ndarray] = {}
    for rank in range(world_size):
        masker = bench.anew(case.options)
        for step in range(start, -(-len(plan) // MICRO_BATCHES)):
            for number in this_rank(step, MICRO_BATCHES, rank, world_size):
                if number >= len(plan):
                    continue
                index = plan[number].tolist()
                _, mask = bench.mask(replace(case, lines=tuple(case.lines[row] for row in index)), masker)
                found |= {row: mask[:, place : place + 1] for place, row in enumerate(index)}
    return found


def drawn_anew(bench: Bench, case: Case) -> Wrong | None:
    """In another epoch, and with another seed, other masks are drawn."""
    return _never_other(
        bench,
        case,
        {
            "epochs": lambda long: [replace(long, epoch=epoch) for epoch in EPOCHS],
            "seeds": lambda long: [replace(long, seed=seed) for seed in EPOCHS],
        },
    )


def drawn_for_each_row(bench: Bench, case: Case) -> Wrong | None:
    """Rows of the same content, which differ by their number alone, get other masks."""

    def moved(long: Case) -> list[Case]:
        return [replace(long, lines=tuple(line._replace(id=line.id + 1000) for line in long.lines))]

    return _never_other(bench, case, {"rows of the same content": moved})


def _never_other(bench: Bench, case: Case, others: dict[str, Callable[[Case], list[Case]]]) -> Wrong | None:
    """Returns what is wrong if no long row is ever masked otherwise, though some of them are masked in part."""
    long = replace(case, lines=tuple(line for line in case.lines if len(line.content) == LONG))
    if not long.lines:
        return None
    rows, first = bench.mask(long)
    partly = (first.any(axis=2) & (first < rows.maskable).any(axis=2)).any(axis=0)  # [B]
    if not partly.any():
        return None
    row = case.lines.index(long.lines[int(np.flatnonzero(partly)[0])])
    for says, cases in others.items():
        if all(np.array_equal(bench.mask(other)[1], first) for other in cases(long)):
            return Wrong(row, None, f"all {says} have the same masks, in every script")
    return None


def same_every_epoch(bench: Bench, case: Case) -> Wrong | None:
    """Content alone decides: epoch and seed change nothing."""
    _, first = bench.mask(case)
    for epoch in EPOCHS:
        _, mask = bench.mask(replace(case, epoch=epoch, seed=epoch))
        if wrong := difference(first, mask, f"it is masked otherwise in epoch {epoch} of seed {epoch}"):
            return wrong
    return None


def difference(expected: np.ndarray, found: np.ndarray, says: str) -> Wrong | None:
    """Returns where two masks [K, B, T] of the same rows differ; they may be padded to different widths."""
    width = max(expected.shape[2], found.shape[2])
    both = [np.pad(mask, ((0, 0), (0, 0), (0, width - mask.shape[2]))) for mask in (expected, found)]
    different = np.argwhere(both[0] != both[1])
    return Wrong(int(different[0, 1]), int(different[0, 2]), says) if len(different) else None


def _seed_generators(seed: int) -> None:
    """Brings the global random generators into a state that no usual seed gives."""
    random.seed(seed)
    np.random.seed(seed)
    random.random(), np.random.random_sample()
    if torch := sys.modules.get("torch"):
        torch.manual_seed(seed)
        torch.rand(1)
