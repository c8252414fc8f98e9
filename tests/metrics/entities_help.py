"""Entities of tags that are written as words, for tests."""

import numpy as np

from taskmask.metrics.entities import entities_of, entity_counts
from taskmask.metrics.tag_schemes import scheme_of


def entities(tags, names=None):
    """The entities of one sentence; `names` are the labels of the whole dataset."""
    names = list(names or dict.fromkeys(tags))
    return entities_of([names.index(tag) for tag in tags], scheme_of(names))


def counts(truth, guess, names=None):
    """`entity_counts` of lists of tags."""
    names = list(names or dict.fromkeys(tag for tags in (*truth, *guess) for tag in tags))
    labels = [np.array([names.index(tag) for tags in part for tag in tags], np.int64) for part in (truth, guess)]
    sentence = np.repeat(np.arange(len(truth)), [len(tags) for tags in truth])
    return entity_counts(*labels, sentence, len(truth), scheme_of(names))
