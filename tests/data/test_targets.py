"""Labels stand where the mask is."""

import numpy as np

from taskmask.masking.targets import labels_in_place


def test_positions_count_through_all_views():
    tokens = np.array([[1, 10, 11, 2], [1, 12, 2, 0]])
    mask = np.zeros((2, 2, 4), bool)
    mask[0, 0, 1] = mask[0, 1, 1] = mask[1, 0, 2] = True
    positions, labels = labels_in_place(tokens, mask)
    assert positions.tolist() == [1, 5, 8 + 2]
    assert labels.tolist() == [10, 12, 11]


def test_no_choice_is_no_target():
    positions, labels = labels_in_place(np.array([[1, 10, 2]]), np.zeros((3, 1, 3), bool))
    assert positions.shape == labels.shape == (0,)
    assert positions.dtype == labels.dtype == np.int64
