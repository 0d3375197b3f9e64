"""Which candidates a cross-encoder's scores leave as negatives, and in which order."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from enum import IntEnum
from math import isfinite

import numpy as np

from harness.search.scores import false_negative_limit


class Change(IntEnum):
    """What becomes of a candidate."""

    KEPT = 0
    DROPPED = 1
    RELABELLED = 2


@dataclass(frozen=True, slots=True)
class Limits:
    """From which score on a candidate is a likely positive. p: the score of a known positive of the query.

    relative, margin: dropped if the score is at least min(p - (1 - relative) · |p|, p - margin), p the lowest. relabel:
    of those (of all, without these two) becomes a positive what scores at least p - (1 - relabel) · |p|, p the highest.
    None: no such limit. The lowest positive spares no likely positive among the negatives, the highest takes no
    doubtful one among the positives.
    """

    relative: float | None = None
    margin: float | None = None
    relabel: float | None = None

    def check(self) -> None:
        """Check that what is relabelled would be no negative otherwise, and that every limit is a number.

        Raises:
            ValueError: `relabel` lies below `relative`, or a limit is not finite.
        """
        for name, value in asdict(self).items():
            if value is not None and not isfinite(value):
                raise ValueError(f"--{name}: got {value:g}, expected a finite number; leave it out for no limit")
        if self.relabel is not None and self.relative is not None and self.relabel < self.relative:
            raise ValueError(
                f"--relabel: got {self.relabel:g} with --relative {self.relative:g}, expected at least as much: what "
                "becomes a positive cannot be a safe negative; raise --relabel"
            )


@dataclass(frozen=True, slots=True)
class Judgement:
    """The candidates of queries after a cross-encoder has scored them.

    document_QK, score_QK: those that stay negatives, by falling score; -1 and NaN padded. change_QK: what becomes of
    each candidate, in the order of the search. drop_Q, relabel_Q: the limits of each query.
    """

    document_QK: np.ndarray
    score_QK: np.ndarray
    change_QK: np.ndarray
    drop_Q: np.ndarray
    relabel_Q: np.ndarray


def judge(
    document_QK: np.ndarray, score_QK: np.ndarray, lowest_Q: np.ndarray, highest_Q: np.ndarray, limits: Limits
) -> Judgement:
    """Sort the candidates by the cross-encoder's scores, and leave out the likely positives.

    document_QK: in the order of the search, -1 padded. score_QK: the cross-encoder's. lowest_Q, highest_Q: the lowest
    and the highest score of the query's known positives. Equal scores keep the order of the search.
    """
    drop_Q = false_negative_limit(lowest_Q, relative=limits.relative, margin=limits.margin)
    relabel_Q = false_negative_limit(highest_Q, relative=limits.relabel)
    # A margin is no share: above a large positive it may spare as a negative what the share would make a positive.
    relabel_Q = np.where(np.isfinite(drop_Q), np.maximum(relabel_Q, drop_Q), relabel_Q)
    change_QK = np.where(score_QK >= drop_Q[:, None], Change.DROPPED, Change.KEPT)
    change_QK = np.where(score_QK >= relabel_Q[:, None], Change.RELABELLED, change_QK)
    change_QK = np.where(document_QK >= 0, change_QK, Change.KEPT).astype(np.int8)
    stays_QK = (document_QK >= 0) & (change_QK == Change.KEPT)
    order_QK = np.argsort(np.where(stays_QK, -score_QK.astype(np.float64), np.inf), axis=1, kind="stable")
    stays_QK = np.take_along_axis(stays_QK, order_QK, 1)
    return Judgement(
        np.where(stays_QK, np.take_along_axis(document_QK, order_QK, 1), -1),
        np.where(stays_QK, np.take_along_axis(score_QK, order_QK, 1), np.nan).astype(np.float32),
        change_QK,
        drop_Q,
        relabel_Q,
    )
