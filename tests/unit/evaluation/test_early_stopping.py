"""When a run ends early is decided from its recorded scores alone."""

from __future__ import annotations

from contextlib import nullcontext

import pytest

from harness.evaluation.config import EarlyStoppingConfig, EvaluationConfig
from harness.evaluation.early_stopping import reason_to_end

METRIC = "faq/ndcg_at_10"


def ends_at(scores: list[float | None], patience: int, min_delta: float = 0.0) -> int | None:
    """The first evaluation, from 1, after which a run with these scores ends. The score of the start is 0.9."""
    settings = EarlyStoppingConfig(patience=patience, min_delta=min_delta)
    for last in range(1, len(scores) + 1):
        results = {10 * i: {"faq": {"ndcg_at_10": score}} for i, score in enumerate([0.9, *scores[:last]])}
        if reason_to_end(settings, METRIC, results) is not None:
            return last
    return None


@pytest.mark.parametrize(
    ("scores", "patience", "min_delta", "expected"),
    [
        ([0.1, 0.2, 0.3], 1, 0.0, None),  # the starting model's 0.9 does not count
        ([0.3, 0.3], 1, 0.0, 2),  # as good is no better
        ([0.3, 0.2, 0.4, 0.3, 0.3], 2, 0.0, 5),
        ([0.30, 0.31, 0.32, 0.33, 0.34, 0.35], 3, 0.025, None),  # slow gains add up: from 0.30 to 0.33
        ([0.30, 0.31, 0.32, 0.33], 2, 0.05, 3),
        ([None, 0.1, None, None], 2, 0.0, 4),  # a score that is not known is no gain
    ],
)
def test_a_run_ends_after_so_many_evaluations_without_a_gain(
    scores: list[float | None], patience: int, min_delta: float, expected: int | None
) -> None:
    assert ends_at(scores, patience, min_delta) == expected


def test_it_is_refused_without_what_it_judges_by() -> None:
    early = {"patience": 2}
    with pytest.raises(ValueError, match=r"early_stopping: got it without evaluation.main_metric"):
        EvaluationConfig(data=["faq"], early_stopping=early)
    with pytest.raises(ValueError, match=r"early_stopping: got it without evaluation.every above 0"):
        EvaluationConfig(data=["faq"], main_metric=METRIC, every=0, early_stopping=early)


@pytest.mark.parametrize(("every", "of_mteb", "is_scored"), [(0, 5, True), (5, 0, False), (5, None, True)])
def test_a_main_metric_of_mteb_is_judged_at_the_steps_of_mteb(every, of_mteb, is_scored):
    section = {
        "every": every, "main_metric": "mteb/STS12/cosine_spearman", "early_stopping": {"patience": 1},
        "mteb": {"tasks": ["STS12"], "every": of_mteb},
    }  # fmt: skip
    with nullcontext() if is_scored else pytest.raises(ValueError, match=r"without evaluation\.every above 0"):
        EvaluationConfig(**section)
