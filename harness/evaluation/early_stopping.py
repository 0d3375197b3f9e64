"""Decides from the recorded scores alone whether a run ends early, so that a continued run decides the same."""

from __future__ import annotations

from collections.abc import Mapping

from harness.evaluation.config import EarlyStoppingConfig
from harness.evaluation.results import selection_score
from harness.evaluation.runner import Results


def evaluations_without_gain(
    settings: EarlyStoppingConfig, main_metric: str, scores: Mapping[int, Results]
) -> tuple[int, int]:
    """(the step whose score is to be beaten, how many evaluations after it have not beaten it by more than min_delta).

    scores: step → results; step 0 does not count, nor do steps at which the metric was not scored.
    """
    best_step, best, without_gain = 0, -float("inf"), 0
    dataset, _, metric = main_metric.rpartition("/")
    for step in sorted(step for step in scores if step > 0 and metric in scores[step].get(dataset, {})):
        score = selection_score(scores[step], main_metric)
        if best_step == 0 or score > best + settings.min_delta:
            best_step, best, without_gain = step, score, 0
        else:
            without_gain += 1
    return best_step, without_gain


def reason_to_end(
    settings: EarlyStoppingConfig | None, main_metric: str | None, scores: Mapping[int, Results]
) -> str | None:
    """Why the run ends after its newest evaluation, in words; None: it goes on."""
    if settings is None or main_metric is None:
        return None
    best_step, without_gain = evaluations_without_gain(settings, main_metric, scores)
    if without_gain < settings.patience:
        return None
    value = selection_score(scores[best_step], main_metric)
    more = f" by more than {settings.min_delta:g}" if settings.min_delta else ""
    return (
        f"{without_gain} evaluation{'s' if without_gain > 1 else ''} in a row with no better {main_metric}{more} than "
        f"step {best_step} ({value:.4f}): evaluation.early_stopping"
    )
