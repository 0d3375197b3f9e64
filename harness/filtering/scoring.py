"""Stage 4: the cosine of query and positive by an embedding model; each different text is encoded once."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from harness.filtering.pairs import PairTable
from harness.search.scores import listed_scores
from harness.search.unique_texts import unique_texts


@dataclass(frozen=True, slots=True)
class UniqueSides:
    """The different queries and the different documents of some pairs, in the order in which they first occur."""

    query_id_Q: np.ndarray  # int64, number of the text in the table
    query_hash_Q: np.ndarray  # uint64, of the raw text
    document_id_C: np.ndarray
    document_hash_C: np.ndarray
    query_E: np.ndarray  # int64, which of the queries is the pair's
    document_E: np.ndarray  # int64, which of the documents is the pair's

    @classmethod
    def of(cls, table: PairTable, pair_E: np.ndarray) -> UniqueSides:
        """Those of the pairs numbered `pair_E`."""
        query_id_Q, query_hash_Q, query_E = _unique(table, table.query_P[pair_E])
        document_id_C, document_hash_C, document_E = _unique(table, table.positive_P[pair_E])
        return cls(query_id_Q, query_hash_Q, document_id_C, document_hash_C, query_E, document_E)


def cosines(query_QD: np.ndarray, document_CD: np.ndarray, sides: UniqueSides) -> np.ndarray:
    """Σ_d query_d · document_d of each pair, float32 [E]; both tables hold unit rows."""
    query, document, query_E, document_E = map(
        torch.from_numpy, (query_QD, document_CD, sides.query_E, sides.document_E)
    )
    return listed_scores(query, document, query_E, document_E).numpy()


def _unique(table: PairTable, text_E: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(first text with each different hash, these hashes, which of them each entry has)."""
    hash_E = table.text_hash_G[text_E]
    first_U, which_E = unique_texts(hash_E)
    return text_E[first_U], hash_E[first_U], which_E
