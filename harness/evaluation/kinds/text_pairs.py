"""Computes embeddings and cosines of pairs of texts, for the kinds of data whose rows are pairs."""

from __future__ import annotations

import numpy as np

from harness.search.encode import EncodeTexts, encode_each_once
from harness.search.unit_rows import unit_rows


def encode_pairs(encode: EncodeTexts, texts1: list[str], texts2: list[str]) -> tuple[np.ndarray, np.ndarray]:
    """(embeddings of the first texts, of the second texts), float32 [S, D] each; a repeated text is encoded once."""
    both_ND = encode_each_once(encode, [*texts1, *texts2], "sentence")
    return both_ND[: len(texts1)], both_ND[len(texts1) :]


def pair_cosines(first_SD: np.ndarray, second_SD: np.ndarray) -> np.ndarray:
    """Cosine of the two embeddings of each pair, float32 [S]."""
    return np.einsum("sd,sd->s", unit_rows(first_SD), unit_rows(second_SD))
