"""What a training costs: floating-point operations, estimated from the shape of the model, and the bill of a run.

The estimate counts products of matrices, two operations for each weight and token, and a backward pass as twice the
forward pass. Padding, norms, activations, the optimizer, recomputation and frozen layers are left out, so that it tells
policies on one model apart, and says within some percent what is computed; it does not say how long that takes.

**Source:** Kaplan et al. 2020 (arXiv 2001.08361), section 2.1 and table 1 (C = 6 N per token, N without embeddings);
Hoffmann et al. 2022 (arXiv 2203.15556), appendix F (the attention matrix, and the product with the vocabulary).
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
from torch import nn

from taskmask.analysis.compare.results import Cost
from taskmask.errors import DataError
from taskmask.models.base import Model
from taskmask.modules.heads_spec import HeadSpec
from taskmask.training.monitor.run_log import read_log

FORWARD_AND_BACKWARD = 6  # a product and a sum for each weight; the backward pass takes twice the forward pass


@dataclasses.dataclass(frozen=True)
class Shape:
    """What the estimate needs to know of a model.

    Args:
        per_token: weights that each token is multiplied with: all matrices but tables of embeddings, heads and decoder.
        per_target: weights that each target is multiplied with: those of the heads, of the vocabulary, and of the
            decoder that writes it.
        attention: layers times width: what two tokens cost that see each other.
        target_attention: the same of a decoder, whose targets see each other and the tokens.
    """

    per_token: int
    per_target: int
    attention: int
    target_attention: int = 0


def shape_of(model: Model, heads: dict[str, HeadSpec], vocab_size: int, width: int) -> Shape:
    """Counts the weights of a model.

    Args:
        model: with heads under `heads.*`, if it has any.
        heads: the heads that its task asks for.
        vocab_size: entries of the vocabulary.
        width: of the hidden states; 0 where it is not known, so that the attention matrix is left out.
    """
    matrices = {name: p for name, p in model.named_parameters() if p.dim() > 1}
    tables = {
        f"{name}.weight".lstrip("."): module.weight
        for name, module in model.named_modules()
        if isinstance(module, nn.Embedding)
    }
    of_heads = [p for name, p in matrices.items() if name.startswith("heads.")]
    body = {name: p for name, p in matrices.items() if name not in tables and not name.startswith("heads.")}
    of_decoder = {name: p for name, p in body.items() if name.startswith("decoder_layers.")}
    per_token = sum(p.numel() for name, p in body.items() if name not in of_decoder)
    writes = any(spec.kind == "lm" for spec in heads.values())
    per_target = sum(p.numel() for p in of_heads)
    if writes and not any(vocab_size in p.shape for p in of_heads):
        tied = [table.numel() for table in tables.values() if len(table) == vocab_size]
        per_target += tied[0] if tied else vocab_size * width
    decoder_layers = len(getattr(model, "decoder_layers", ()))
    attention = (model.num_layers - decoder_layers) * width
    if not writes or not decoder_layers:
        return Shape(per_token, per_target, attention)
    reads = sum(p.numel() for name, p in of_decoder.items() if ".cross_attention.memory." in name)
    per_target += sum(p.numel() for p in of_decoder.values()) - reads
    return Shape(per_token + reads, per_target, attention, 2 * decoder_layers * width)


def flops(shape: Shape, tokens: float, targets: float, length: float) -> float:
    """Estimates the floating-point operations of a training, forward and backward.

    Args:
        shape: of the model.
        tokens: tokens seen, all views counted, padding not.
        targets: tokens, or rows, that a loss asked for.
        length: tokens that a token sees, on average.
    """
    seen = 2 * length  # queries by keys, and weights by values
    of_tokens = tokens * (shape.per_token + shape.attention * seen)
    return FORWARD_AND_BACKWARD * (of_tokens + targets * (shape.per_target + shape.target_attention * seen))


def seen_by_a_token(lengths: np.ndarray) -> float:
    """Returns the tokens of the row that a token stands in, on average over the tokens of rows of int [N] `lengths`."""
    values = lengths.astype(np.float64)
    return float((values**2).sum() / max(values.sum(), 1.0))


def bill(run: Path, shape: Shape, length: float) -> Cost:
    """Returns what a run has cost, from its log, so that it does not matter how often it was stopped and gone on with.

    The time is that of steps and validations; starts and checkpoints are left out.

    Args:
        run: the run folder.
        shape: of its model.
        length: tokens that a token sees, on average.

    Raises:
        DataError: the log is damaged.
    """
    file = run / "log.jsonl"
    try:
        return _billed(file, shape, length)
    except (KeyError, TypeError, ValueError) as error:
        raise DataError("is damaged", where=str(file), fix=f"remove {run}, which is trained anew") from error


def _billed(file: Path, shape: Shape, length: float) -> Cost:
    lines = read_log(file, "train") if file.exists() else []
    if not lines:
        return Cost()
    seconds, before = 0.0, 0
    for line in lines:
        if line["tokens_per_second"]:
            seconds += (line["tokens"] - before) / line["tokens_per_second"]
        before = line["tokens"]
    seconds += sum(line["seconds"] for line in read_log(file, "valid"))
    last = lines[-1]
    return Cost(
        updates=last["step"] - last["skipped_steps"],
        tokens=last["tokens"],
        targets=last["targets"],
        flops=flops(shape, last["tokens"], last["targets"], length),
        seconds=round(seconds, 3),
    )
