"""Pair classification: how well the cosine separates pairs of texts that mean the same from other pairs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from sklearn.metrics import average_precision_score

from harness.data.source.columns.labels import is_positive
from harness.data.source.files import Row
from harness.evaluation.counts import Counts, note_unused, unused_columns
from harness.evaluation.kinds.kind import Embeddings, Kind
from harness.evaluation.kinds.text_pairs import PAIR_COLUMNS, encode_pairs, has_pair
from harness.evaluation.rows import MISSING, bad_field, read_rows, text_field
from harness.search.encode import EncodeTexts
from harness.search.scores import pair_cosines
from harness.search.unit_rows import unit_rows


@dataclass(frozen=True, slots=True)
class PairClassificationData:
    """Pairs of texts, and whether they mean the same."""

    texts1: list[str]
    texts2: list[str]
    same: list[bool]
    counts: Counts = field(default_factory=dict, compare=False)


class PairClassification(Kind[PairClassificationData]):
    data_type = PairClassificationData
    unit = "pairs"
    metrics = ("cosine_ap", "max_ap")
    columns = "text1, text2, label"

    def recognises(self, row: Row) -> bool:
        return has_pair(row) and bool({"label", "labels"} & row.keys()) and "score" not in row

    def load(self, file: Path, cache: str | None = None) -> PairClassificationData:
        data, unused = PairClassificationData([], [], []), Counter[str]()
        for line, row in read_rows(file):
            left, right = next((names for names in PAIR_COLUMNS if names[0] in row), PAIR_COLUMNS[0])
            data.texts1.append(text_field(file, line, row, left))
            data.texts2.append(text_field(file, line, row, right))
            name = "labels" if "labels" in row and "label" not in row else "label"  # mteb's data sets have labels
            label = row.get(name, MISSING)
            same = is_positive(label)
            if same is None:
                raise bad_field(file, line, name, label, "1 (the same) or 0 (not); a degree is called score")
            data.same.append(same)
            note_unused(unused, row, (left, right, name))
        if len(set(data.same)) < 2:
            raise ValueError(f"{file}: got pairs of one label only, expected 0 and 1")
        data.counts.update(unused_columns(unused))
        return data

    def num_rows(self, data: PairClassificationData) -> int:
        return len(data.texts1)

    def encode(self, encode: EncodeTexts, data: PairClassificationData) -> Embeddings:
        return encode_pairs(encode, data.texts1, data.texts2)

    def score(self, data: PairClassificationData, first_SD: np.ndarray, second_SD: np.ndarray) -> dict[str, float]:
        return pair_classification_scores(first_SD, second_SD, data.same)


def pair_classification_scores(first_SD: np.ndarray, second_SD: np.ndarray, same: Sequence[bool]) -> dict[str, float]:
    """Average precision of "the same" by cosine, and the higher one of those by cosine and by Manhattan distance.

    mteb's max_ap has the inner product and the Euclidean distance, too: of unit vectors, they rank as the cosine does.
    Computed by scikit-learn: pairs with equal similarities share a rank.
    """
    by_cosine = float(average_precision_score(same, pair_cosines(first_SD, second_SD)))
    distance_S = np.abs(unit_rows(first_SD) - unit_rows(second_SD)).sum(axis=1, dtype=np.float64).astype(np.float32)
    return {"cosine_ap": by_cosine, "max_ap": max(by_cosine, float(average_precision_score(same, -distance_S)))}
