"""Pair classification: how well the cosine separates pairs of texts that mean the same from other pairs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from sklearn.metrics import average_precision_score

from harness.data.source.files import Row
from harness.evaluation.kinds.kind import Embeddings, Kind
from harness.evaluation.kinds.text_pairs import encode_pairs, has_pair, pair_cosines, pair_of
from harness.evaluation.rows import bad_field, read_rows
from harness.search.encode import EncodeTexts


@dataclass(frozen=True, slots=True)
class PairClassificationData:
    """Pairs of texts, and whether they mean the same."""

    texts1: list[str]
    texts2: list[str]
    same: list[bool]


class PairClassification(Kind[PairClassificationData]):
    data_type = PairClassificationData
    metrics = ("cosine_ap",)
    columns = "text1, text2, label"

    def recognises(self, row: Row) -> bool:
        return has_pair(row) and "label" in row and "score" not in row

    def load(self, file: Path) -> PairClassificationData:
        data = PairClassificationData([], [], [])
        for line, row in read_rows(file):
            left, right = pair_of(file, line, row)
            data.texts1.append(left)
            data.texts2.append(right)
            if row.get("label") not in (0, 1):
                raise bad_field(
                    file, line, "label", row.get("label"), "1 (the same) or 0 (not); a degree is called score"
                )
            data.same.append(bool(row["label"]))
        if len(set(data.same)) < 2:
            raise ValueError(f"{file}: got pairs of one label only, expected 0 and 1")
        return data

    def num_rows(self, data: PairClassificationData) -> int:
        return len(data.texts1)

    def encode(self, encode: EncodeTexts, data: PairClassificationData) -> Embeddings:
        return encode_pairs(encode, data.texts1, data.texts2)

    def score(self, data: PairClassificationData, first_SD: np.ndarray, second_SD: np.ndarray) -> dict[str, float]:
        return pair_classification_scores(first_SD, second_SD, data.same)


def pair_classification_scores(first_SD: np.ndarray, second_SD: np.ndarray, same: Sequence[bool]) -> dict[str, float]:
    """Average precision of "the same" by cosine, computed by scikit-learn: pairs with equal cosines share a rank."""
    return {"cosine_ap": float(average_precision_score(same, pair_cosines(first_SD, second_SD)))}
