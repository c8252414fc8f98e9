"""The first weights of a model."""

from __future__ import annotations

import torch
from torch import nn


@torch.no_grad()
def init_weights(model: nn.Module, std: float, residual_scale: float = 1.0) -> None:
    """Fills every parameter, in the order of `named_parameters`, from torch's default generator.

    | parameter | first value |
    |---|---|
    | matrices (linear weights, embeddings) | normal(0, std) |
    | matrices called `output`, which write into the residual stream | normal(0, std * residual_scale) |
    | vectors called `bias` or `output_bias` | 0 |
    | other vectors (LayerNorm gains) | 1 |

    **Source:** Devlin et al. 2019, google-research/bert (`initializer_range`). Differs from the paper: the normal is
    not cut at two standard deviations (RoBERTa's is not either, and cutting takes 20 times as long: 5 s for BERT-base).
    For the scale of the residual matrices see `residual_scale_of`.

    Args:
        model: changed in place.
        std: standard deviation.
        residual_scale: factor for the matrices that write into the residual stream.
    """
    for name, parameter in model.named_parameters():
        if parameter.dim() == 1:
            parameter.fill_(0.0 if name.endswith("bias") else 1.0)
        else:
            parameter.normal_(0.0, std * residual_scale if name.endswith("output.weight") else std)


def residual_scale_of(norm: str, layers: int) -> float:
    """The factor for the residual matrices: 1 / sqrt(2 layers) for pre-norm, 1 for post-norm.

    The residual stream of a pre-norm network sums 2 x layers sublayers and no norm brings it back, so that its variance
    would grow with depth; a post-norm network normalises each sum.

    **Source:** Radford et al. 2019 (GPT-2), section 2.3; Shoeybi et al. 2019 (Megatron-LM, arXiv 1909.08053), section
    4.2, whose initialization ModernBERT follows (arXiv 2412.13663, section 2.2).
    """
    return (2 * layers) ** -0.5 if norm == "pre" else 1.0
