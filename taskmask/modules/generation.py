"""Text out of a model that scores the next token: greedy and beam search. Knows no model.

Shapes: N rows, R rows that are not done, K hypotheses of a row, P tokens of a hypothesis, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from taskmask.modules.heads_spec import GenerationConfig

Step = Callable[[Tensor, Tensor | None, Tensor | None], Tensor]
"""Reads tokens and scores what may come next.

It is called with (tokens, parents, rows). First with the prefix, int64 [N, P], and None twice; it returns logits
[N, 1, V]. Then with one token a hypothesis, int64 [R, K]; the hypotheses of the call before that they go on from, int64
[R, K]; and the rows of the call before that are left, int64 [R], None where all are. It returns logits [R, K, V].
"""


def generate(step: Step, prefix: Tensor, config: GenerationConfig, *, eos: int) -> list[Tensor]:
    """Finds what a model says: with one beam greedily, with several by a beam search. Nothing is drawn.

    A row that is done leaves the batch, so what comes out of a row does not depend on the others.

    Of a finished hypothesis of L new tokens, `eos` included, the score is its log-probability / L ** length_penalty;
    where `max_length` is reached, the closing `eos` costs nothing. A row is done when it has as many finished
    hypotheses as beams and either `early_stopping` is true, or the best one that is not finished would score no better
    than the worst of them if it ended here; the best one is the result.

    **Source:** transformers, `generation/utils.py` (`_sample`, `_beam_search`) and `generation/logits_process.py`, as
    for BART: forced_eos_token_id is `eos`, and forced_bos_token_id the end of the prefix. The length penalty: Wu et al.
    2016 (arXiv 1609.08144), section 7, in the simple form of OpenNMT.

    Args:
        step: the model.
        prefix: int64 [N, P], what every hypothesis begins with. The first is no new token, the others are.
        config: how to search.
        eos: the token that ends a hypothesis.

    Returns:
        N tensors on the CPU, int64: what comes after the prefix, up to `eos`.
    """
    if len(prefix) == 0:
        return []
    search = _greedy if config.beams == 1 else _beam_search
    said = search(step, prefix, config, eos).cpu()[:, prefix.shape[1] :]
    lengths = (said != eos).long().cumprod(1).sum(1)
    return [text[:length] for text, length in zip(said, lengths.tolist(), strict=True)]


def _room(prefix: Tensor, config: GenerationConfig, eos: int) -> Tensor:
    """The prefix in rows with room for `max_length` new tokens, which are all `eos`: [N, 1 + max_length]."""
    rows, begin = prefix.shape
    said = prefix.new_full((rows, max(begin, 1 + config.max_length)), eos)
    said[:, :begin] = prefix
    return said


def _greedy(step: Step, prefix: Tensor, config: GenerationConfig, eos: int) -> Tensor:
    said, begin = _room(prefix, config, eos), prefix.shape[1]
    alive, tokens, parents, rows = torch.arange(len(said), device=said.device), prefix, None, None
    for place in range(begin, config.max_length):
        logits = step(tokens, parents, rows)[:, 0].float()
        chosen = _allowed(logits, said[alive, :place], config, eos).argmax(-1)  # [R]
        said[alive, place] = chosen
        left = (chosen != eos).nonzero()[:, 0]
        rows = left if len(left) < len(alive) else None
        alive, tokens = alive[left], chosen[left, None]
        parents = torch.zeros_like(tokens)
        if len(alive) == 0:
            break
    return said


def _beam_search(step: Step, prefix: Tensor, config: GenerationConfig, eos: int) -> Tensor:
    said, begin, beams = _room(prefix, config, eos), prefix.shape[1], config.beams
    alive, tokens, parents, rows = torch.arange(len(said), device=said.device), prefix, None, None
    running = said[:, None].clone()  # [R, K, 1 + max_length], K = 1 until the first step
    scores = torch.zeros(len(said), 1, device=said.device)  # [R, K]
    finished = running.expand(-1, beams, -1)  # best first
    finished_scores = torch.full((len(said), beams), -torch.inf, device=said.device)
    for place in range(begin, config.max_length):
        logits = step(tokens, parents, rows)
        width, vocab_size = logits.shape[1:]
        chances = logits.float().log_softmax(-1).flatten(0, 1)  # [R, K, V] -> [R K, V]
        chances = _allowed(chances, running[:, :, :place].flatten(0, 1), config, eos)
        totals = (chances.view(len(alive), width, vocab_size) + scores[:, :, None]).flatten(1)  # [R, K V]
        # Twice as many as beams, so that enough go on where some end.
        totals, index = totals.topk(min(2 * beams, totals.shape[1]))
        origin, tokens = index // vocab_size, index % vocab_size
        ends = tokens == eos
        norm = place**config.length_penalty
        closed = (totals / norm).masked_fill(~ends, -torch.inf)[:, :beams]
        finished_scores, finished = _best(
            torch.cat((finished_scores, closed), 1), torch.cat((finished, _take(running, origin[:, :beams])), 1), beams
        )
        scores, pick = totals.masked_fill(ends, -torch.inf).topk(min(beams, totals.shape[1]))
        parents, tokens = origin.gather(1, pick), tokens.gather(1, pick)
        running = _take(running, parents)
        running[:, :, place] = tokens
        last = finished_scores[:, -1]  # minus infinity as long as there are fewer finished ones than beams
        is_open = last.isneginf() if config.early_stopping else scores[:, 0] / norm > last
        left = is_open.nonzero()[:, 0]
        rows = None
        if len(left) < len(alive):
            said[alive[~is_open]] = finished[~is_open, 0]
            rows, alive, tokens, parents = left, alive[left], tokens[left], parents[left]
            running, scores = running[left], scores[left]
            finished, finished_scores = finished[left], finished_scores[left]
        if len(alive) == 0:
            return said
    closed = scores / config.max_length**config.length_penalty
    _, finished = _best(torch.cat((finished_scores, closed), 1), torch.cat((finished, running), 1), 1)
    said[alive] = finished[:, 0]
    return said


def _take(hypotheses: Tensor, index: Tensor) -> Tensor:
    """Takes hypotheses int64 [R, K', P] out of [R, K, P] by [R, K']."""
    return hypotheses.gather(1, index[:, :, None].expand(-1, -1, hypotheses.shape[2]))


def _best(scores: Tensor, hypotheses: Tensor, number: int) -> tuple[Tensor, Tensor]:
    """The best hypotheses and their scores, best first."""
    scores, index = scores.topk(number)
    return scores, _take(hypotheses, index)


def _allowed(scores: Tensor, said: Tensor, config: GenerationConfig, eos: int) -> Tensor:
    """Scores [M, V] of what may follow `said`, int64 [M, P]; changed in place: minus infinity where it may not."""
    place, size = said.shape[1], config.no_repeat_ngram
    if 0 < size <= place:
        runs = said.unfold(1, size, 1)  # [M, P - size + 1, size]
        seen = (runs[:, :, :-1] == said[:, None, place - size + 1 :]).all(-1)  # those that begin as said ends
        row, run = seen.nonzero(as_tuple=True)
        scores[row, runs[row, run, -1]] = -torch.inf
    if place <= config.min_length:
        scores[:, eos] = -torch.inf
    return scores
