"""Paired differences of two arms, and bootstrap intervals over seeds and queries.

The runs of one seed see the same training queries in the same order, so that their scores are paired: by seed, and on a
retrieval set by test query, too. A new experiment would draw other seeds and other test queries; the interval draws
both with replacement, independently of each other (the "pigeonhole bootstrap", Owen, arXiv 0705.0589, conservative
where both are many). Three seeds are few: the interval is a rough one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.stats import bootstrap

LEVEL, RESAMPLES = 0.95, 4999
MEAN = "mean of the sets"


@dataclass(frozen=True, slots=True)
class Scores:
    """The scores of one run on one set. value_Q: of each query; of a set that has one score as a whole, this one."""

    score: float
    value_Q: np.ndarray


RunScores = Mapping[str, Scores]  # data set → scores


@dataclass(frozen=True, slots=True)
class Difference:
    """Arm less baseline on one set, over the seeds that both have.

    by_seed: one difference a seed. spread: their sample standard deviation; None for one seed. low, high: of the
    interval at LEVEL; corrected_low, corrected_high: at the level at which all comparisons together are wrong as rarely
    (Bonferroni). All four are None for one seed: it says nothing of others.
    """

    mean: float
    by_seed: list[float]
    spread: float | None
    low: float | None
    high: float | None
    corrected_low: float | None
    corrected_high: float | None

    @property
    def verdict(self) -> str:
        """What the intervals allow to say."""
        if self.low is None or self.high is None or self.corrected_low is None or self.corrected_high is None:
            return "one seed"
        if self.corrected_low > 0 or self.corrected_high < 0:
            return "significant"
        if self.low > 0 or self.high < 0:
            return "alone only"
        return "not significant"


def difference(
    arm: Mapping[int, RunScores], baseline: Mapping[int, RunScores], names: Sequence[str], num_comparisons: int
) -> Difference:
    """The difference of two arms (seed → scores), which must share a seed, on the mean of the sets `names`.

    num_comparisons: how many such differences are looked at together.
    """
    seeds = sorted(arm.keys() & baseline.keys())
    difference_SQ_of_set = [
        np.stack([arm[seed][name].value_Q - baseline[seed][name].value_Q for seed in seeds]) for name in names
    ]
    by_seed = np.mean([difference_SQ.mean(axis=1) for difference_SQ in difference_SQ_of_set], axis=0).tolist()
    if len(seeds) == 1:
        return Difference(by_seed[0], by_seed, None, None, None, None, None)
    levels = (LEVEL, 1 - (1 - LEVEL) / max(1, num_comparisons))
    (low, high), (corrected_low, corrected_high) = _intervals(difference_SQ_of_set, levels)
    spread = float(np.std(by_seed, ddof=1))
    return Difference(float(np.mean(by_seed)), by_seed, spread, low, high, corrected_low, corrected_high)


def _intervals(difference_SQ_of_set: Sequence[np.ndarray], levels: Sequence[float]) -> list[tuple[float, float]]:
    """Percentile intervals of the mean over sets of the mean difference, seeds and queries drawn with replacement."""

    num_seeds = len(difference_SQ_of_set[0])
    sets_of_queries = [difference_SQ for difference_SQ in difference_SQ_of_set if difference_SQ.shape[1] > 1]
    whole_S = [difference_SQ[:, 0] for difference_SQ in difference_SQ_of_set if difference_SQ.shape[1] == 1]

    def statistic(seed_S: np.ndarray, *query_Q_of_set: np.ndarray) -> float:
        means = [
            difference_SQ[np.ix_(seed_S, query_Q)].mean()
            for difference_SQ, query_Q in zip(sets_of_queries, query_Q_of_set, strict=True)
        ]
        return float(np.mean([*means, *(value_S[seed_S].mean() for value_S in whole_S)]))

    samples = [np.arange(num_seeds), *(np.arange(difference_SQ.shape[1]) for difference_SQ in sets_of_queries)]
    drawn: Any = None
    found = []
    for level in levels:  # the second level uses the resamples of the first
        drawn = bootstrap(
            samples,
            statistic,
            n_resamples=RESAMPLES if drawn is None else 0,
            vectorized=False,
            confidence_level=level,
            method="percentile",
            bootstrap_result=drawn,
            rng=np.random.default_rng(0),
        )
        interval = drawn.confidence_interval
        found.append((float(interval.low), float(interval.high)))
    return found
