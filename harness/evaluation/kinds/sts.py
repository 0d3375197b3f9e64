"""Semantic textual similarity: how well the cosines of pairs of texts correlate with the graded similarity."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import stats

from harness.evaluation.datasets import STSData
from harness.evaluation.kinds.kind import Embeddings, Kind
from harness.evaluation.kinds.text_pairs import encode_pairs, pair_cosines
from harness.search.encode import EncodeTexts


class STS(Kind[STSData]):
    data_type = STSData
    metrics = ("spearman", "pearson")

    def num_rows(self, data: STSData) -> int:
        return len(data.texts1)

    def encode(self, encode: EncodeTexts, data: STSData) -> Embeddings:
        return encode_pairs(encode, data.texts1, data.texts2)

    def score(self, data: STSData, first_SD: np.ndarray, second_SD: np.ndarray) -> dict[str, float]:
        return sts_scores(first_SD, second_SD, data.scores)


def sts_scores(first_SD: np.ndarray, second_SD: np.ndarray, score_S: Sequence[float]) -> dict[str, float]:
    """Spearman's and Pearson's correlation of the cosines with the given scores; 0 if either side is constant."""
    cosine_S = pair_cosines(first_SD, second_SD).astype(np.float64)
    if np.ptp(cosine_S) == 0 or np.ptp(score_S) == 0:
        return {"spearman": 0.0, "pearson": 0.0}
    return {
        "spearman": float(stats.spearmanr(cosine_S, score_S).statistic),
        "pearson": float(stats.pearsonr(cosine_S, score_S).statistic),
    }
