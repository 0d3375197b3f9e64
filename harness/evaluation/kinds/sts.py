"""Semantic textual similarity: how well the cosines of pairs of texts correlate with the graded similarity."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy import stats

from harness.data.source.files import Row
from harness.evaluation.kinds.kind import Embeddings, Kind
from harness.evaluation.kinds.text_pairs import encode_pairs, has_pair, pair_cosines, pair_of
from harness.evaluation.rows import bad_field, read_rows
from harness.search.encode import EncodeTexts


@dataclass(frozen=True, slots=True)
class STSData:
    """Pairs of texts and their graded similarity."""

    texts1: list[str]
    texts2: list[str]
    scores: list[float]


class STS(Kind[STSData]):
    data_type = STSData
    metrics = ("spearman", "pearson")
    columns = "text1, text2, score"

    def recognises(self, row: Row) -> bool:
        return has_pair(row) and ("label" not in row or "score" in row)

    def load(self, file: Path) -> STSData:
        data = STSData([], [], [])
        for line, row in read_rows(file):
            left, right = pair_of(file, line, row)
            data.texts1.append(left)
            data.texts2.append(right)
            score = row.get("score")
            if isinstance(score, bool) or not isinstance(score, int | float) or not math.isfinite(score):
                raise bad_field(file, line, "score", score, "a number")
            data.scores.append(float(score))
        if len(data.scores) < 2:
            raise ValueError(f"{file}: got {len(data.scores)} rows, expected at least 2 pairs")
        return data

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
