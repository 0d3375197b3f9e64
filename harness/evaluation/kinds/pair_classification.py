"""Pair classification: how well the cosine separates pairs of texts that mean the same from other pairs."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from sklearn.metrics import average_precision_score

from harness.evaluation.datasets import PairClassificationData
from harness.evaluation.kinds.kind import Embeddings, Kind
from harness.evaluation.kinds.text_pairs import encode_pairs, pair_cosines
from harness.search.encode import EncodeTexts


class PairClassification(Kind[PairClassificationData]):
    data_type = PairClassificationData
    metrics = ("cosine_ap",)

    def num_rows(self, data: PairClassificationData) -> int:
        return len(data.texts1)

    def encode(self, encode: EncodeTexts, data: PairClassificationData) -> Embeddings:
        return encode_pairs(encode, data.texts1, data.texts2)

    def score(self, data: PairClassificationData, first_SD: np.ndarray, second_SD: np.ndarray) -> dict[str, float]:
        return pair_classification_scores(first_SD, second_SD, data.same)


def pair_classification_scores(first_SD: np.ndarray, second_SD: np.ndarray, same: Sequence[bool]) -> dict[str, float]:
    """Average precision of "the same" by cosine, computed by scikit-learn: pairs with equal cosines share a rank."""
    return {"cosine_ap": float(average_precision_score(same, pair_cosines(first_SD, second_SD)))}
