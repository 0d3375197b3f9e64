"""STS scores are correlations of cosines and grades."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from harness.evaluation.kinds.sts import sts_scores
from tests.unit.evaluation.kinds.vectors import random_rows


def test_sts_scores_are_the_correlations_of_cosine_and_grade() -> None:
    left, right = random_rows(40, 6), random_rows(40, 6, seed=1)
    grade = np.random.default_rng(2).integers(0, 5, 40).astype(float)
    cosine = (left * right).sum(1) / np.linalg.norm(left, axis=1) / np.linalg.norm(right, axis=1)
    scores = sts_scores(left, right, grade.tolist())
    assert scores["spearman"] == pytest.approx(stats.spearmanr(cosine, grade).statistic, abs=1e-6)
    assert scores["pearson"] == pytest.approx(np.corrcoef(cosine, grade)[0, 1], abs=1e-6)


def test_a_collapsed_model_has_correlation_zero_instead_of_nan() -> None:
    same = np.ones((5, 3))
    assert sts_scores(same, same, [0.0, 1.0, 2.0, 3.0, 4.0]) == {"spearman": 0.0, "pearson": 0.0}
