"""`mining.successor: score`: a negative is replaced by a candidate that is harder than it, or not at all."""

from __future__ import annotations

import numpy as np

from harness.data.bank.negatives import NegativeBank
from harness.mining.judging.slots import Judgement


def harder_ranks(
    bank: NegativeBank, row_B: np.ndarray, rank_BM: np.ndarray, similarity_BM: np.ndarray, judgement: Judgement
) -> np.ndarray:
    """The ranks [B, M] that replace negatives; -1: the slot keeps its negative.

    The query's candidates are dealt in order, the most similar first: to the negatives that are too hard, then to the
    easy ones, the easiest first. An easy negative stays if its candidate's score is not above its similarity; then no
    later candidate of the query is harder either. One that the loss has left out in its last use, so that its
    similarity is not known, counts as the easiest.

    rank_BM: the result of `bank.next_ranks` for the leaving slots. similarity_BM: S.
    """
    group_BM = np.where(judgement.too_hard_BM, 0, np.where(judgement.easy_BM, 1, 2))  # 2: stays
    known_or_lowest_BM = np.where(np.isnan(similarity_BM), -np.inf, similarity_BM)
    slot_BM = np.lexsort((np.where(judgement.easy_BM, known_or_lowest_BM, 0.0), group_BM), axis=1)  # stable
    candidate_BM = np.take_along_axis(rank_BM, np.argsort(~judgement.leaving_BM, axis=1, kind="stable"), 1)
    dealt_BM = np.full_like(rank_BM, -1)
    np.put_along_axis(dealt_BM, slot_BM, candidate_BM, 1)
    score_BM = bank.candidates.scores(row_B, np.maximum(dealt_BM, 0))
    with np.errstate(invalid="ignore"):
        is_no_harder_BM = score_BM <= similarity_BM
    return np.where(is_no_harder_BM & ~judgement.too_hard_BM, -1, dealt_BM)
