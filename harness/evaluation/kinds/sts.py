"""Semantic textual similarity: how well the cosines of pairs of texts correlate with the graded similarity."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from scipy import stats

from harness.data.source.facts import FileFacts
from harness.data.source.files import Row
from harness.evaluation.counts import Counts, unused_columns
from harness.evaluation.kinds.kind import Embeddings, Kind
from harness.evaluation.kinds.text_pairs import encode_pairs, has_pair
from harness.evaluation.rows import read_examples
from harness.search.encode import EncodeTexts
from harness.search.scores import pair_cosines


@dataclass(frozen=True, slots=True)
class STSData:
    """Pairs of texts and their graded similarity."""

    texts1: list[str]
    texts2: list[str]
    scores: list[float]
    counts: Counts = field(default_factory=dict, compare=False)


class STS(Kind[STSData]):
    data_type = STSData
    unit = "pairs"
    metrics = ("spearman", "pearson")
    columns = "text1, text2, score"

    def recognises(self, row: Row) -> bool:
        return has_pair(row) and ("score" in row or not {"label", "labels"} & row.keys())

    def load(self, file: Path, cache: str | None = None) -> STSData:
        data = STSData([], [], [])
        for _, example in read_examples(file, "sts", facts := FileFacts()):
            assert example.score is not None
            data.texts1.append(example.texts[0])
            data.texts2.append(example.texts[1])
            data.scores.append(example.score)
        data.counts.update(unused_columns(facts.unused))
        if len(data.scores) < 2:
            raise ValueError(f"{file}: got {len(data.scores)} rows, expected at least 2 pairs")
        if len(set(data.scores)) < 2:
            data.counts["pairs_of_one_score"] = len(data.scores)
        return data

    def num_rows(self, data: STSData) -> int:
        return len(data.texts1)

    def encode(self, encode: EncodeTexts, data: STSData) -> Embeddings:
        return encode_pairs(encode, data.texts1, data.texts2)

    def score(self, data: STSData, first_SD: np.ndarray, second_SD: np.ndarray) -> dict[str, float]:
        return sts_scores(first_SD, second_SD, data.scores)


def sts_scores(first_SD: np.ndarray, second_SD: np.ndarray, score_S: Sequence[float]) -> dict[str, float]:
    """Spearman's and Pearson's correlation of the cosines with the given scores (mteb's cosine_spearman, ..._pearson).

    Equal values share their mean rank. If either side is constant, there is no correlation: NaN, null in results.
    """
    cosine_S = pair_cosines(first_SD, second_SD).astype(np.float64)
    if np.ptp(cosine_S) == 0 or np.ptp(score_S) == 0:
        return {"spearman": float("nan"), "pearson": float("nan")}
    return {
        "spearman": float(stats.spearmanr(cosine_S, score_S).statistic),
        "pearson": float(stats.pearsonr(cosine_S, score_S).statistic),
    }
