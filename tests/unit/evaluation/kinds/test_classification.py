"""Classification is evaluated as in mteb."""

from __future__ import annotations

import numpy as np
import pytest

from harness.evaluation.kinds.classification import classification_scores, training_samples


def test_each_experiment_trains_on_eight_different_rows_per_label() -> None:
    labels = ["a"] * 30 + ["b"] * 20 + ["c"] * 5
    experiments = training_samples(labels)
    assert len(experiments) == 10
    for rows in experiments:
        assert len(set(rows)) == len(rows) == 8 + 8 + 5
        assert sum(row < 30 for row in rows) == 8
    assert len({tuple(sorted(rows)) for rows in experiments}) == 10
    assert experiments == training_samples(labels)


def test_the_draw_of_training_rows_is_mtebs() -> None:
    """Expected rows: output of mteb 2.26's AbsTaskClassification._undersample_data (seed 42) for these labels."""
    labels = ["ab"[i % 2] for i in range(40)]
    assert training_samples(labels)[:2] == [
        [19, 16, 15, 26, 4, 12, 37, 27, 39, 6, 25, 9, 13, 34, 8, 24],
        [33, 17, 8, 30, 4, 13, 14, 36, 38, 37, 2, 6, 31, 39, 21, 19],
    ]


def test_accuracy_is_the_mean_over_the_experiments_and_reads_drawn_rows_only() -> None:
    generator = np.random.default_rng(0)
    labels = [str(i % 3) for i in range(90)]
    centre = np.eye(3)[[int(label) for label in labels]]
    train = (centre + 0.05 * generator.standard_normal((90, 3))).astype(np.float32)
    drawn = sorted({row for rows in training_samples(labels) for row in rows})
    spoilt = np.full_like(train, np.nan)
    spoilt[drawn] = train[drawn]
    test_labels = ["0", "1", "2", "0"]
    test = np.eye(3)[[0, 1, 2, 1]]  # the last one is wrong on purpose
    scores = classification_scores(spoilt, labels, test, test_labels)
    assert scores["accuracy"] == pytest.approx(3 / 4)
    assert scores["f1"] == pytest.approx((2 / 3 + 2 / 3 + 1) / 3)
