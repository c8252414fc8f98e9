"""What the tests of the variance share: moments of gradients that are made up and kept whole."""

import numpy as np

from taskmask.stats.gradient_moments import Sums, forms_of


def sums_of(tables, counts, weights=(1.0,), forms=None, groups=(slice(None),), policy="policy"):
    """The moments of gradients that are their own sketches.

    Args:
        tables: float [R, D, N, L, P], summed gradients.
        counts: float [R, D, N, L], their targets.
        weights: of the losses.
        forms: those of an update and of views drawn independently, if there are none.
        groups: of the P weights.
    """
    draws, views = tables.shape[1:3]
    short = [len(range(tables.shape[-1])[group]) for group in groups]
    forms = forms_of(views) if forms is None else forms
    sums = Sums.of(policy, views, draws, np.array(weights), forms, len(tables), short)
    for row, (table, count) in enumerate(zip(tables, counts, strict=True)):

        def sketched(weights, table=table):
            whole = np.tensordot(weights, table, 3)
            return [whole[group] for group in groups]

        parts = [table[..., group] for group in groups]
        sums.add(row, np.stack([np.tensordot(part, part, (3, 3)) for part in parts]), count, sketched)
    return sums
