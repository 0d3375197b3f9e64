"""Stage 4: scores each pair by the cosine of its query and positive. Each distinct text is encoded once."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from harness.filtering.pairs import PairTable
from harness.search.scores import listed_scores
from harness.search.unique_texts import unique_texts


@dataclass(frozen=True, slots=True)
class UniqueSides:
    """The distinct queries and the distinct documents of some pairs, in the order of their first occurrence.

    Texts with equal tokens are one query or one document: they have one embedding.
    """

    query_id_Q: np.ndarray  # int64, text id in the table
    document_id_C: np.ndarray
    query_E: np.ndarray  # int64, position of each pair's query among Q
    document_E: np.ndarray  # int64, position of each pair's document among C

    @classmethod
    def of(cls, table: PairTable, pair_E: np.ndarray) -> UniqueSides:
        """The distinct queries and documents of the pairs with the numbers `pair_E`."""
        query_id_Q, query_E = _unique(table, table.query_P[pair_E])
        document_id_C, document_E = _unique(table, table.positive_P[pair_E])
        return cls(query_id_Q, document_id_C, query_E, document_E)


def cosines(query_QD: np.ndarray, document_CD: np.ndarray, sides: UniqueSides) -> np.ndarray:
    """Σ_d query_d · document_d of each pair, float32 [E]; both tables hold unit rows."""
    query, document, query_E, document_E = map(
        torch.from_numpy, (query_QD, document_CD, sides.query_E, sides.document_E)
    )
    return listed_scores(query, document, query_E, document_E).numpy()


def _unique(table: PairTable, text_E: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(first text id of each distinct text, the position of each entry's text among the distinct texts)."""
    first_U, position_E = unique_texts(table.token_hash_G[text_E])
    return text_E[first_U], position_E
