"""Reads pairs of texts, and computes their embeddings and cosines, for the kinds of data whose rows are pairs."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from harness.data.source.files import Row
from harness.data.source.formats import FORMATS
from harness.evaluation.rows import text_field
from harness.search.encode import EncodeTexts, encode_each_once
from harness.search.unit_rows import unit_rows

_PAIR_COLUMNS = tuple(row_format.texts for row_format in FORMATS if row_format.kind == "sts")


def has_pair(row: Row) -> bool:
    """Whether the row has both columns of a pair: text1 and text2, or sentence1 and sentence2."""
    return any(left in row and right in row for left, right in _PAIR_COLUMNS)


def pair_of(file: Path, line: int, row: Row) -> tuple[str, str]:
    """The two texts of a row.

    Raises:
        ValueError: one of them is missing or empty.
    """
    left, right = next((names for names in _PAIR_COLUMNS if names[0] in row), _PAIR_COLUMNS[0])
    return text_field(file, line, row, left), text_field(file, line, row, right)


def encode_pairs(encode: EncodeTexts, texts1: list[str], texts2: list[str]) -> tuple[np.ndarray, np.ndarray]:
    """(embeddings of the first texts, of the second texts), float32 [S, D] each; a repeated text is encoded once."""
    both_ND = encode_each_once(encode, [*texts1, *texts2], "sentence")
    return both_ND[: len(texts1)], both_ND[len(texts1) :]


def pair_cosines(first_SD: np.ndarray, second_SD: np.ndarray) -> np.ndarray:
    """Cosine of the two embeddings of each pair, float32 [S]."""
    return np.einsum("sd,sd->s", unit_rows(first_SD), unit_rows(second_SD))
