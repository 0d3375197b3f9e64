"""Turns a recorded column of one or several runs into a line of at most 200 points, with a band around it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from harness.report.history import RunHistory

MAX_POINTS = 200  # of a line; more steps are averaged in bins
MAX_MARKS = 400  # steps with replacements that are marked one by one
_SMOOTHED_SHARE, _LEAST_SMOOTHED = 0.1, 7  # of a line's points, which a point of its smoothed line is the mean of


@dataclass(frozen=True, slots=True)
class Curve:
    """A line with a band, P points: mean ± standard deviation over repetitions, or lowest to highest of a bin."""

    x_P: np.ndarray
    mean_P: np.ndarray
    low_P: np.ndarray  # NaN: no band here
    high_P: np.ndarray

    def __len__(self) -> int:
        return len(self.x_P)


def curve(runs: Sequence[RunHistory], column: str) -> Curve:
    """A column of metrics.jsonl over the steps; rows without a number are left out, so a curve may be empty.

    Up to MAX_POINTS steps, each step is a point. More steps are put into bins of equal width, and each bin is a point
    at its mean; the band reaches from the lowest to the highest row of the bin. For several runs, the band is mean ±
    standard deviation over the runs.
    """
    last = max((int(run.step_P[-1]) for run in runs if len(run.step_P)), default=0)
    width = bin_width(last)
    num_bins = -(-last // width)
    binned = [_bins(run, column, width, num_bins) for run in runs]
    step_B, mean_RB, low_RB, high_RB = (np.stack(part) for part in zip(*binned, strict=True))
    centre_B, low_B, high_B = _over_runs(mean_RB) if len(runs) > 1 else (mean_RB[0], low_RB[0], high_RB[0])
    x_B = _mean(step_B)
    kept_B = np.isfinite(centre_B)
    has_band_B = kept_B if width > 1 or len(runs) > 1 else np.zeros_like(kept_B)
    low_B, high_B = (np.where(has_band_B, edge_B, np.nan) for edge_B in (low_B, high_B))
    return Curve(x_B[kept_B], centre_B[kept_B], low_B[kept_B], high_B[kept_B])


def smoothed(raw: Curve) -> Curve:
    """The mean of each point and its neighbours, a tenth of the line or 7 points; at its ends a line fit to these.

    A step's loss depends on which texts it has drawn, by more than what the model learns in it. A line too short to
    have neighbours is left empty. No band. (A filter of Savitzky and Golay, of the first order.)
    """
    from scipy.signal import savgol_filter

    width = 2 * (max(_LEAST_SMOOTHED, round(len(raw) * _SMOOTHED_SHARE)) // 2) + 1
    if len(raw) < width:
        return curve_of_points([{}])
    no_band_P = np.full(len(raw), np.nan)
    return Curve(raw.x_P, savgol_filter(raw.mean_P, width, polyorder=1), no_band_P, no_band_P)


def bin_width(last_step: int) -> int:
    """How many steps share a point."""
    return max(1, -(-last_step // MAX_POINTS))


def curve_of_points(points: Sequence[dict[float, float]]) -> Curve:
    """A curve from one {x: value} per run: at each x, mean and standard deviation over the runs that hold this x."""
    x_P = sorted({x for run in points for x, value in run.items() if np.isfinite(value)})
    value_RP = np.array([[run.get(x, np.nan) for x in x_P] for run in points], dtype=np.float64)
    return Curve(np.array(x_P), *_over_runs(value_RP))


def counts(runs: Sequence[RunHistory], column: str) -> tuple[np.ndarray, np.ndarray]:
    """The steps at which a column of counts is not 0, and the counts there (mean over the runs).

    If there are more than MAX_MARKS such steps, the counts of a bin are summed and placed at the bin's middle step.
    """
    counts: dict[int, float] = {}
    for run in runs:
        for step, count in zip(run.step_P.tolist(), run.column(column).tolist(), strict=True):
            if count > 0:
                counts[step] = counts.get(step, 0.0) + count / len(runs)
    step_P, count_P = np.array(sorted(counts), dtype=np.int64), np.array([counts[step] for step in sorted(counts)])
    if len(step_P) <= MAX_MARKS:
        return step_P, count_P
    width = bin_width(int(step_P[-1]))
    bin_P = (step_P - 1) // width
    sum_B = np.bincount(bin_P, count_P)
    full_B = np.flatnonzero(sum_B)
    return full_B * width + (width + 1) // 2, sum_B[full_B]


def _bins(run: RunHistory, column: str, width: int, num_bins: int) -> tuple[np.ndarray, ...]:
    """[B] each: the mean step of each bin, and the mean, lowest and highest value of its rows; NaN for empty bins."""
    value_P = run.column(column)
    kept_P = np.isfinite(value_P)
    value_P, step_P = value_P[kept_P], run.step_P[kept_P]
    bin_P = (step_P - 1) // width
    count_B = np.bincount(bin_P, minlength=num_bins)
    low_B, high_B = np.full(num_bins, np.inf), np.full(num_bins, -np.inf)
    np.minimum.at(low_B, bin_P, value_P)
    np.maximum.at(high_B, bin_P, value_P)
    with np.errstate(invalid="ignore"):
        step_B = np.bincount(bin_P, step_P, num_bins) / count_B
        mean_B = np.bincount(bin_P, value_P, num_bins) / count_B
    return step_B, mean_B, np.where(count_B, low_B, np.nan), np.where(count_B, high_B, np.nan)


def _over_runs(value_RP: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mean, and mean minus and plus the standard deviation (of a sample; NaN for fewer than two runs)."""
    mean_P, count_P = _mean(value_RP), np.isfinite(value_RP).sum(axis=0)
    squares_P = np.where(np.isfinite(value_RP), (value_RP - mean_P) ** 2, 0.0).sum(axis=0)
    spread_P = np.sqrt(np.divide(squares_P, count_P - 1, out=np.full(mean_P.shape, np.nan), where=count_P > 1))
    return mean_P, mean_P - spread_P, mean_P + spread_P


def _mean(value_RP: np.ndarray) -> np.ndarray:
    """[P]: mean over the runs that have a finite value; NaN if none has."""
    count_P = np.isfinite(value_RP).sum(axis=0)
    total_P = np.where(np.isfinite(value_RP), value_RP, 0.0).sum(axis=0)
    return np.divide(total_P, count_P, out=np.full(total_P.shape, np.nan), where=count_P > 0)
