"""Paired differences of two arms, and bootstrap intervals over seeds and queries.

The runs of one seed see the same training queries in the same order, so that their scores are paired: by seed, and by
test query (text, pair), too. A new experiment would draw other seeds and other test queries; the interval draws both
with replacement, independently of each other (the "pigeonhole bootstrap", Owen, arXiv 0705.0589, conservative where
both are many). Three seeds are few: where they differ more than the queries do, an interval of 95 % misses the truth in
8 to 12 % of experiments, simulated. A seed is an order of the training data; neither that data nor the kinds of test
set are drawn. scipy's bootstrap draws one resample at a time where seeds and queries are crossed; here a
matrix product draws all.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

LEVEL = 0.95
RESAMPLES = 20_000  # so that some lie outside the corrected intervals of a hundred comparisons
MEAN = "mean of the sets"


@dataclass(frozen=True, slots=True)
class Scores:
    """The scores of one run on one set. value_Q: of each query, text or pair; if only the score is known, this one."""

    score: float
    value_Q: np.ndarray


RunScores = Mapping[str, Scores]  # data set → scores


@dataclass(frozen=True, slots=True)
class Difference:
    """Arm less baseline on one set, over the seeds that both have.

    by_seed: one difference a seed. spread: their sample standard deviation; None for one seed. low, high: of the
    interval at LEVEL; corrected_low, corrected_high: at the level at which all comparisons together are wrong as rarely
    (Bonferroni). All four are None for one seed, which says nothing of others, and for a set of which only the score is
    known: drawing three seeds alone would call every difference significant that has one sign in all of them.
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
            return "one seed" if len(self.by_seed) == 1 else "no interval"
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
    spread = float(np.std(by_seed, ddof=1))
    if any(difference_SQ.shape[1] == 1 for difference_SQ in difference_SQ_of_set):
        return Difference(float(np.mean(by_seed)), by_seed, spread, None, None, None, None)
    levels = (LEVEL, 1 - (1 - LEVEL) / max(1, num_comparisons))
    (low, high), (corrected_low, corrected_high) = _intervals(difference_SQ_of_set, levels)
    return Difference(float(np.mean(by_seed)), by_seed, spread, low, high, corrected_low, corrected_high)


def _intervals(difference_SQ_of_set: Sequence[np.ndarray], levels: Sequence[float]) -> list[tuple[float, float]]:
    """Percentile intervals of the mean over sets of the mean difference, seeds and queries drawn with replacement."""
    seed_share_RS = _drawn_shares(len(difference_SQ_of_set[0]), 0)
    mean_R = np.zeros(RESAMPLES)
    for place, difference_SQ in enumerate(difference_SQ_of_set, start=1):
        query_share_RQ = _drawn_shares(difference_SQ.shape[1], place)
        mean_RS = query_share_RQ @ difference_SQ.T.astype(np.float32)
        mean_R += (mean_RS * seed_share_RS).sum(axis=1) / len(difference_SQ_of_set)
    intervals = (np.quantile(mean_R, [(1 - level) / 2, (1 + level) / 2]) for level in levels)
    return [(float(low), float(high)) for low, high in intervals]


@lru_cache(maxsize=16)
def _drawn_shares(count: int, place: int) -> np.ndarray:
    """How often each of `count` things is drawn in `count` draws with replacement, as shares: float32 [R, count].

    place: another one gives other draws. All differences are computed from the same draws.
    """
    drawn = np.random.default_rng((place, count)).multinomial(count, np.full(count, 1 / count), RESAMPLES)
    return (drawn / count).astype(np.float32)
