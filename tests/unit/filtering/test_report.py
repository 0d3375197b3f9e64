"""The counts in the filter's report."""

from __future__ import annotations

import numpy as np

from harness.filtering.reasons import Reason
from harness.filtering.report import counts, score_summary


def test_a_row_goes_when_its_last_pair_goes_and_for_that_reason() -> None:
    row_P = np.array([0, 0, 1, 1, 2])
    reason_P = np.array([Reason.TOO_SHORT, Reason.KEPT, Reason.TOO_SHORT, Reason.LOW_SCORE, Reason.EMPTY], np.uint8)
    found = counts(row_P, reason_P)
    assert found["rows"] == {"in": 3, "kept": 1, "dropped": {"empty": 1, "low_score": 1}}
    assert found["pairs"] == {"in": 5, "kept": 1, "dropped": {"empty": 1, "too_short": 2, "low_score": 1}}


def test_every_scored_pair_stands_in_the_histogram() -> None:
    found = score_summary(np.array([np.nan, 0.4, 0.42, 1.0000001, -0.01], np.float32))
    assert found["scored"] == 4
    assert found["histogram"] == [[-0.05, 1], [0.4, 2], [0.95, 1]]
    assert found["quantiles"]["0.5"] == 0.41
