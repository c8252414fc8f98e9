"""A masking policy of one's own, as a plain function: words that the vocabulary cuts into many pieces come first."""

import numpy as np

from taskmask import register_masker
from taskmask.maskers.base import sample_tokens


@register_masker("long_words")
def long_words(batch, rng, *, budget, power: float = 1.0):
    """Masks the pieces of long words more often: in proportion to the pieces of the word, to the power of `power`.

    Rare words have many pieces, so this is masking rare words first. Power 0 is the masker uniform.
    """
    words = np.maximum(batch.words, 0)  # [B, T], the number of each token's word; special tokens are not maskable
    pieces = np.zeros(batch.shape)  # [B, T], read as [B, words]
    np.add.at(pieces, (np.arange(len(words))[:, None], words), batch.maskable)
    weights = batch.maskable * np.take_along_axis(pieces, words, axis=1) ** power
    return sample_tokens(weights, budget, rng.uniform("long_words", batch.shape[1]))
