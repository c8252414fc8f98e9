"""Subsets of an exact size: their distribution, draws from it, and masks with a gradient.

A subset S of k of T tokens has probability prod_{i in S} exp(s_i) / Z, with s the scores (log-odds of independent
choices) and Z the same sum over all subsets of size k.

Shapes: N rows, T tokens, K the largest size.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

BLOCKED = -1e4
"""Score of a token that is not to be chosen: finite, so that gradients are."""
_IMPOSSIBLE = -1e9


def subset_table(scores: Tensor, sizes: Tensor) -> Tensor:
    """Returns [T + 1, N, K + 1]: entry (j, n, k) is log Z of k of the tokens j, j + 1, ... of row n.

    **Source:** the recursion Z[j, k] = Z[j + 1, k] + exp(s_j) Z[j + 1, k - 1] of Vu et al. 2020 (EMNLP, AMLM), in logs.

    Args:
        scores: [N, T], the log-odds.
        sizes: int64 [N].
    """
    nothing = scores.new_full((len(scores), int(sizes.max()) + 1), _IMPOSSIBLE)
    nothing[:, 0] = 0.0
    table = [nothing]
    for score in reversed(scores.unbind(1)):
        after = table[-1]
        taken = F.pad(after[:, :-1], (1, 0), value=_IMPOSSIBLE) + score[:, None]
        table.append(_log_of_sum(after, taken))
    return torch.stack(table[::-1])


def _log_of_sum(a: Tensor, b: Tensor) -> Tensor:
    """As `torch.logaddexp`, whose second derivative is not a number where the two are far apart."""
    top = torch.maximum(a, b).detach()
    return top + ((a - top).exp() + (b - top).exp()).log()


def log_partition(scores: Tensor, sizes: Tensor) -> Tensor:
    """Returns log Z of each row, [N]; the arguments are those of `subset_table`."""
    return subset_table(scores, sizes)[0].gather(1, sizes[:, None])[:, 0]


def inclusion(scores: Tensor, sizes: Tensor) -> Tensor:
    """Returns [N, T], the probability of each token to be in the subset; they add up to the size.

    It is the derivative of log Z by the score, and has a gradient itself where the scores have one.
    """
    with torch.enable_grad():
        given = scores if scores.requires_grad else scores.detach().requires_grad_()
        total = log_partition(given, sizes).sum()
        (chances,) = torch.autograd.grad(total, given, create_graph=scores.requires_grad)
    return chances


def sample_subsets(scores: Tensor, sizes: Tensor, uniform: Tensor) -> Tensor:
    """Draws a subset of each row: bool [N, T], exactly `sizes` True in each.

    Args:
        scores: [N, T].
        sizes: int64 [N].
        uniform: [N, T], random numbers from 0 to 1.
    """
    table, left, chosen = subset_table(scores.detach(), sizes), sizes[:, None], []
    for place, score in enumerate(scores.detach().unbind(1)):
        fewer = table[place + 1].gather(1, (left - 1).clamp(min=0))
        chance = (score[:, None] + fewer - table[place].gather(1, left)).exp()
        taken = (uniform[:, place, None] < chance) & (left > 0)
        left = left - taken.long()
        chosen.append(taken)
    return torch.cat(chosen, 1)


def log_probability(scores: Tensor, chosen: Tensor, sizes: Tensor) -> Tensor:
    """Returns the log-probability of subsets bool [N, T], [N]."""
    return (scores * chosen).sum(1) - log_partition(scores, sizes)


def largest(scores: Tensor, sizes: Tensor) -> Tensor:
    """Returns bool [N, T], the tokens with the largest scores, exactly `sizes` of each row."""
    rank = scores.argsort(dim=1, descending=True, stable=True).argsort(dim=1)
    return rank < sizes[:, None]


def straight_through(scores: Tensor, sizes: Tensor, uniform: Tensor, temperature: float) -> Tensor:
    """Draws masks of an exact size that are 0 or 1 forwards, and have the gradient of a soft mask backwards.

    The draw is that of the largest scores with Gumbel noise, which is one without replacement; the soft mask is the
    probability of inclusion for the same noisy scores, divided by the temperature.

    **Source:** Jang et al. 2017 (arXiv 1611.01144), section 2.2; Kool et al. 2019 (arXiv 1903.06059), section 2
    (top-k); the gradient through inclusion probabilities as in Ahmed et al. 2023 (arXiv 2210.01941).

    Args:
        scores: [N, T]; `BLOCKED` where nothing is to be chosen.
        sizes: int64 [N].
        uniform: [N, T], random numbers from 0 to 1.
        temperature: above 0; the lower, the nearer the soft mask is to the hard one.

    Returns:
        [N, T].
    """
    tiny = torch.finfo(scores.dtype).tiny
    noisy = scores - (-uniform.to(scores.dtype).clamp(min=tiny).log()).clamp(min=tiny).log()
    soft = inclusion(noisy / temperature, sizes)
    return largest(noisy, sizes).to(scores.dtype) + (soft - soft.detach())  # exactly 0 is added
