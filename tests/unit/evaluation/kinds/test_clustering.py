"""Clustering is scored by comparing clusters with labels."""

from __future__ import annotations

import numpy as np
import pytest

from harness.evaluation.kinds.clustering import CLUSTERING_TEXTS, clustering_sample, clustering_scores
from tests.unit.evaluation.kinds.vectors import random_rows


def test_clusters_are_compared_by_v_measure_whatever_their_names() -> None:
    labels = [str(i % 4) for i in range(40)]
    near = np.eye(4, 6)[[int(label) for label in labels]] + 0.01 * random_rows(40, 6)
    assert clustering_scores(near.astype(np.float32), labels) == {"v_measure": pytest.approx(1.0)}
    # Labels 0 and 2 share a point, 1 and 3 another: the clusters have 1 of the labels' 2 bits (homogeneity 1/2), and
    # each label is in one cluster (completeness 1).
    merged = np.eye(4, 6)[[int(label) % 2 for label in labels]]
    (score,) = clustering_scores(merged.astype(np.float32), labels).values()
    assert score == pytest.approx(
        2 * 0.5 * 1 / (0.5 + 1), abs=0.01
    )  # 0.01: the labels of 16,384 drawn rows are not exactly balanced
    assert clustering_scores(near.astype(np.float32), labels) == clustering_scores(near.astype(np.float32), labels)


def test_of_more_texts_than_mteb_embeds_its_number_is_drawn() -> None:
    assert clustering_sample(5) == [0, 1, 2, 3, 4]
    drawn = clustering_sample(CLUSTERING_TEXTS + 100)
    assert len(set(drawn)) == CLUSTERING_TEXTS
    assert drawn == clustering_sample(CLUSTERING_TEXTS + 100) != list(range(CLUSTERING_TEXTS))
