"""Pair classification is scored by the cosines of the pairs."""

from __future__ import annotations

import numpy as np
import pytest

from harness.evaluation.kinds.pair_classification import pair_classification_scores
from tests.unit.evaluation.kinds.vectors import towards


def test_pairs_are_classified_by_average_precision_of_their_cosines() -> None:
    first, second = np.tile([[3.0, 0.0]], (4, 1)), towards(0.9, 0.5, 0.7, 0.2)
    scores = pair_classification_scores(first, second, [True, True, False, False])
    assert scores["cosine_ap"] == pytest.approx((1 + 2 / 3) / 2)  # the pairs of label 1 have ranks 1 and 3
    alike = pair_classification_scores(first, first, [True, False, False, False])
    assert alike == {"cosine_ap": pytest.approx(1 / 4), "max_ap": pytest.approx(1 / 4)}  # all have the same rank


def test_the_maximum_is_over_cosine_and_manhattan_distance_of_unit_vectors() -> None:
    first = np.tile([[2.0, 0.0, 0.0]], (2, 1))
    # The same: cosine 0.80, Manhattan distance 0.2 + 0.6. Not: cosine 0.82, Manhattan distance 0.18 + 0.405 + 0.405.
    other = np.sqrt((1 - 0.82**2) / 2)
    second = np.array([[0.8, 0.6, 0.0], [0.82, other, other]])
    scores = pair_classification_scores(first, second, [True, False])
    assert scores == {"cosine_ap": pytest.approx(1 / 2), "max_ap": pytest.approx(1.0)}
