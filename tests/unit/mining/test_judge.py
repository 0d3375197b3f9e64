"""What a cross-encoder's scores leave as negatives: against the definition, one candidate at a time."""

from __future__ import annotations

import numpy as np
import pytest

from harness.mining.cross_encoder.judge import Change, Limits, judge


def by_loops(document, score, lowest, highest, limits: Limits) -> tuple[list[list[int]], list[list[int]]]:
    """(the negatives of every query, best first; what becomes of each candidate)."""
    negatives, changes = [], []
    for query in range(len(document)):
        p_low, p_high, kept, change = float(lowest[query]), float(highest[query]), [], []
        for found, s in zip(document[query], score[query], strict=True):
            what = Change.KEPT
            if found >= 0:
                if limits.relative is not None and s >= p_low - (1 - limits.relative) * abs(p_low):
                    what = Change.DROPPED
                if limits.margin is not None and s >= p_low - limits.margin:
                    what = Change.DROPPED
                is_safe = what == Change.KEPT and (limits.relative, limits.margin) != (None, None)
                if not is_safe and limits.relabel is not None and s >= p_high - (1 - limits.relabel) * abs(p_high):
                    what = Change.RELABELLED
                kept += [(s, int(found))] if what == Change.KEPT else []
            change.append(int(what))
        negatives.append([found for _, found in sorted(kept, key=lambda entry: -entry[0])])
        changes.append(change)
    return negatives, changes


@pytest.mark.parametrize(
    "limits",
    [
        Limits(),
        Limits(relative=0.9),
        Limits(margin=0.3),
        Limits(relative=0.9, margin=0.05),
        Limits(relabel=1.0),
        Limits(relative=0.8, relabel=1.2),
        Limits(margin=0.02, relabel=0.3),
        Limits(margin=-0.5, relabel=1.0),
    ],
)
def test_candidates_are_dropped_relabelled_and_sorted_as_one_by_one(limits: Limits) -> None:
    """Logits: a positive may have a negative score. Some lists are shorter than others.

    What a margin keeps as a safe negative becomes no positive, although a share of the positive's score would allow it.
    """
    random = np.random.default_rng(0)
    document = np.where(random.random((30, 6)) < 0.8, random.integers(0, 99, (30, 6)), -1)
    score = np.where(document >= 0, random.normal(size=document.shape), np.nan).astype(np.float32)
    low = random.normal(size=30).astype(np.float32)
    high = low + np.abs(random.normal(size=30)).astype(np.float32)
    judged = judge(document, score, low, high, limits)
    negatives, changes = by_loops(document, score, low, high, limits)
    assert judged.change_QK.tolist() == changes
    for query, expected in enumerate(negatives):
        count = len(expected)
        assert judged.document_QK[query].tolist() == [*expected, *[-1] * (6 - count)]
        assert np.isnan(judged.score_QK[query, count:]).all()
        assert (np.diff(judged.score_QK[query, :count]) <= 0).all()


def test_equal_scores_keep_the_order_of_the_search() -> None:
    """A saturated sigmoid gives many candidates the score 1."""
    documents = np.random.default_rng(0).permutation(200)[None]
    scores = np.float32(np.arange(200) % 2)[None]
    judged = judge(documents, scores, np.float32([2]), np.float32([2]), Limits())
    assert judged.document_QK[0].tolist() == [*documents[0, 1::2], *documents[0, ::2]]


def test_a_relabelled_candidate_must_be_one_that_would_be_dropped() -> None:
    with pytest.raises(ValueError, match=r"--relabel: got 0\.9 with --relative 0\.95, expected at least as much"):
        Limits(relative=0.95, relabel=0.9).check()
    Limits(relative=0.95, relabel=0.95).check()
