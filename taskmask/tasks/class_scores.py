"""What scores of classes say: probabilities, and log-odds, which order answers that are all but certain.

Shapes: N answers, C classes.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


def log_odds(logits: Tensor) -> Tensor:
    """Returns log(p / (1 - p)) of the probability p of each class, float64 [N, C].

    A probability near 1 keeps few digits: in fp32 every p above 1 - 3e-8 is 1, in fp16 every p above 0.99976 is. The
    log-odds keep all of them: those of the likeliest class are its logit less the logarithm of the summed exponentials
    of the others.

    Args:
        logits: [N, C].
    """
    import torch

    logits = logits.double()
    best = logits.argmax(-1, keepdim=True)
    others = logits.scatter(-1, best, -torch.inf).logsumexp(-1, keepdim=True)
    shares = logits.log_softmax(-1)  # of the other classes at most log 0.5, so that 1 - p has its digits
    return (shares - torch.log1p(-shares.exp())).scatter(-1, best, logits.gather(-1, best) - others)


def described(logits: Tensor, names: list[str], what: tuple[str, ...]) -> dict[str, Tensor]:
    """Returns what is asked of the scores of classes.

    Args:
        logits: [N, C].
        names: of the classes.
        what: "label", and of that label the "confidence" (its probability) and the "log_odds", [N] each;
            "probabilities" and "logits" of all classes, [N, C]; "probability:NAME", "logit:NAME" and "log_odds:NAME" of
            one, [N].
    """
    chances = functools.cache(lambda: logits.double().softmax(-1))
    odds = functools.cache(lambda: log_odds(logits))
    whole: dict[str, Callable[[], Tensor]] = {
        "label": lambda: logits.argmax(-1),
        "confidence": lambda: chances().amax(-1),
        "log_odds": lambda: odds().amax(-1),
        "probabilities": chances,
        "logits": lambda: logits,
    }
    of_one: dict[str, Callable[[], Tensor]] = {"probability": chances, "logit": lambda: logits, "log_odds": odds}
    found = {}
    for asked in what:
        kind, is_of_one, name = asked.partition(":")
        found[asked] = of_one[kind]()[..., names.index(name)] if is_of_one else whole[kind]()
    return found
