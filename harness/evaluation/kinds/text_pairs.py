"""Encodes pairs of texts for the kinds of data whose rows are pairs."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np

from harness.data.source.formats import FORMATS
from harness.search.encode import EncodeTexts, encode_on_main

PAIR_COLUMNS = tuple(row_format.texts for row_format in FORMATS if row_format.kind == "sts")


def has_pair(columns: Collection[str]) -> bool:
    """Whether both columns of a pair are there: text1 and text2, or sentence1 and sentence2."""
    return any(left in columns and right in columns for left, right in PAIR_COLUMNS)


def encode_pairs(encode: EncodeTexts, texts1: list[str], texts2: list[str]) -> tuple[np.ndarray, np.ndarray]:
    """(embeddings of the first texts, of the second texts), float32 [S, D] each; rank 0 alone gets them."""
    both_ND = encode_on_main(encode, [*texts1, *texts2], "sentence")
    return both_ND[: len(texts1)], both_ND[len(texts1) :]
