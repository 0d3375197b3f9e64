"""Stage 4b: which documents of a step are known positives of which query, and so never its negatives.

The text of any known positive of a query, sampled in this step or not, of this row or of any row of any task with the
same query text. For classification every text of the query's label is one. The query's own text is one too: a document
equal to the query is no evidence of dissimilarity. Raw texts are compared, by 64-bit hash.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from harness.data.index import TaskData
from harness.data.ragged import expand_ranges


def known_positive_pairs(
    all_data: Sequence[TaskData],
    data: TaskData,
    query_B: np.ndarray,
    document_hash_P: np.ndarray,
    document_P: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """Pairs (query position, document position), sorted and each once.

    query_B: text ids of `data`. document_P: position of a document in the task's table, document_hash_P: its raw
    text's hash (a position may occur with several hashes: texts that truncation made equal).
    """
    query_hash_B = data.text_hash_G[query_B]
    pairs = [_join(np.arange(len(query_B)), query_hash_B, document_hash_P, document_P)]
    for other in all_data:
        if other.kind == "retrieval":
            owner, positive_hash = _listed_positives(other, query_hash_B)
            pairs.append(_join(owner, positive_hash, document_hash_P, document_P))
        elif other.kind == "classification":
            pairs.append(_same_label(other, query_hash_B, document_hash_P, document_P))
    owner = np.concatenate([pair[0] for pair in pairs])
    document = np.concatenate([pair[1] for pair in pairs])
    both = np.unique(np.stack([owner, document]), axis=1)
    return both[0], both[1]


def _listed_positives(data: TaskData, query_hash_B: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(query position, positive's hash) over all rows of `data` whose query text is equal."""
    query, place = expand_ranges(*data.rows_with_query(query_hash_B))
    row = data.sorted_query_row_R[place]
    first = data.row_start_R1[row] + 1
    entry, text_id = expand_ranges(first, first + data.num_positives_R[row])
    return query[entry], data.text_hash_G[text_id]


def _same_label(
    data: TaskData, query_hash_B: np.ndarray, document_hash_P: np.ndarray, document_P: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Pairs whose texts share a label in `data`; a text may stand there under several labels."""
    assert data.label_R is not None
    query, place = expand_ranges(*data.rows_with_query(query_hash_B))
    query_label = data.label_R[data.sorted_query_row_R[place]]
    document, place = expand_ranges(*data.rows_with_query(document_hash_P))
    document_label = data.label_R[data.sorted_query_row_R[place]]
    return _join(query, query_label, document_label, document_P[document])


def _join(
    owner: np.ndarray, key: np.ndarray, other_key: np.ndarray, other: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """All (owner, other) with equal keys: a sort-merge join."""
    order = np.argsort(other_key, kind="stable")
    sorted_key = other_key[order]
    start, stop = np.searchsorted(sorted_key, key, "left"), np.searchsorted(sorted_key, key, "right")
    entry, place = expand_ranges(start, stop)
    return owner[entry], other[order[place]]
