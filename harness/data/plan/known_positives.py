"""Stage 4b: which documents of a step are known positives of which query, and so never its negatives.

The text of any known positive of a query, sampled in this step or not, of this row or of any row of any task with the
same query text. For classification every text of the query's label is one. The query's own text is one too: a document
equal to the query is no evidence of dissimilarity. Raw texts are compared, by 64-bit hash.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from harness.data.ragged import expand_ranges
from harness.data.table.index import TaskData


def known_positive_pairs(
    all_data: Sequence[TaskData],
    data: TaskData,
    query_B: np.ndarray,
    document_hash_P: np.ndarray,
    document_P: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """Pairs (query position, document position), sorted and each once, over all queries and all documents.

    query_B: text ids of `data`. document_P: position of a document in the task's table, document_hash_P: its raw
    text's hash (a position may occur with several hashes: texts that truncation made equal).

    With a classification task among `all_data` the list holds every two texts of one label, so that time and memory
    grow with B · P divided by the number of labels: 16 bytes and more a pair.
    """
    query_hash_B = data.text_hash_G[query_B]
    owner, text = _query_and_positives(all_data, query_hash_B)
    pairs = [_join(owner, text, document_hash_P, document_P)]  # all data sets at once: it sorts the documents
    for other in all_data:
        if other.kind == "classification":
            owner, query_label = _labels(other, query_hash_B)
            entry, document_label = _labels(other, document_hash_P)
            pairs.append(_join(owner, query_label, document_label, document_P[entry]))
    return merge_pairs(*pairs)


def merge_pairs(*pairs: tuple[np.ndarray, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Lists of pairs of positions to one, sorted and each once."""
    owner, document = (np.concatenate(part) for part in zip(*pairs, strict=True))
    return _unique_pairs(owner, document)


def known_positives_among(
    all_data: Sequence[TaskData],
    data: TaskData,
    query_B: np.ndarray,
    document_hash_P: np.ndarray,
    document_P: np.ndarray,
    candidate_BM: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """The pairs of `known_positive_pairs` whose document is a candidate of its query.

    candidate_BM: document positions, -1 padded. Time and memory grow with the candidates and with the listed
    positives of the queries, whatever the labels.
    """
    query_hash_B = data.text_hash_G[query_B]
    owner, column = np.nonzero(candidate_BM >= 0)
    owner, candidate = _unique_pairs(owner, candidate_BM[owner, column])
    entry, place = _matches(candidate, document_P)
    owner, candidate_hash, document = owner[entry], document_hash_P[place], document_P[place]
    known = candidate_hash == query_hash_B[owner]
    for other in all_data:
        if other.kind == "retrieval":
            known |= _is_in(owner, candidate_hash, *_listed_positives(other, query_hash_B))
        elif other.kind == "classification":
            entry, candidate_label = _labels(other, candidate_hash)
            shared = _is_in(owner[entry], candidate_label, *_labels(other, query_hash_B))
            known[entry[shared]] = True
    return _unique_pairs(owner[known], document[known])


def same_meaning_pairs(
    all_data: Sequence[TaskData], query_hash_B: np.ndarray, other_hash_P: np.ndarray, other_P: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Pairs (query position, position of another query), sorted and each once, of queries that mean the same.

    They do if their texts are equal, one is a known positive of the other, or they have a known positive in common: a
    listed one, or all texts of a label, which then is the label of either's text or of one of its listed positives.
    """
    owner, text = _query_and_positives(all_data, query_hash_B)
    entry, other_text = _query_and_positives(all_data, other_hash_P)
    pairs = [_join(owner, text, other_text, other_P[entry])]
    for data in all_data:
        if data.kind == "classification":
            place, label = _labels(data, text)
            other_place, other_label = _labels(data, other_text)
            pairs.append(_join(owner[place], label, other_label, other_P[entry[other_place]]))
    return merge_pairs(*pairs)


def _query_and_positives(all_data: Sequence[TaskData], query_hash_B: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(query position, hash) of each query's text and of its listed positives."""
    found = [(np.arange(len(query_hash_B)), query_hash_B)]
    found += [_listed_positives(data, query_hash_B) for data in all_data if data.kind == "retrieval"]
    owner, text = (np.concatenate(part) for part in zip(*found, strict=True))
    return owner, text


def _listed_positives(data: TaskData, query_hash_B: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(query position, positive's hash) over all rows of `data` whose query text is equal."""
    query, place = expand_ranges(*data.rows_with_query(query_hash_B))
    row = data.sorted_query_row_R[place]
    first = data.row_start_R1[row] + 1
    entry, text_id = expand_ranges(first, first + data.num_positives_R[row])
    return query[entry], data.text_hash_G[text_id]


def _labels(data: TaskData, hash_U: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(position in `hash_U`, label) of each text that stands in `data`; a text may stand there under several labels."""
    assert data.label_R is not None
    position, place = expand_ranges(*data.rows_with_query(hash_U))
    return position, data.label_R[data.sorted_query_row_R[place]]


def _join(
    owner: np.ndarray, key: np.ndarray, other_key: np.ndarray, other: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """All (owner, other) with equal keys."""
    entry, place = _matches(key, other_key)
    return owner[entry], other[place]


def _matches(key: np.ndarray, other_key: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """All (position in `key`, position in `other_key`) with equal keys: a sort-merge join."""
    order = np.argsort(other_key, kind="stable")
    sorted_key = other_key[order]
    start, stop = np.searchsorted(sorted_key, key, "left"), np.searchsorted(sorted_key, key, "right")
    entry, place = expand_ranges(start, stop)
    return entry, order[place]


def _is_in(owner: np.ndarray, key: np.ndarray, other_owner: np.ndarray, other_key: np.ndarray) -> np.ndarray:
    """Whether each (owner, key) is one of the other pairs."""
    values, code = np.unique(np.concatenate([key, other_key]), return_inverse=True)
    packed = np.concatenate([owner, other_owner]) * len(values) + code
    return np.isin(packed[: len(owner)], packed[len(owner) :])


def _unique_pairs(owner: np.ndarray, document: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Pairs of positions, sorted and each once: one int64 a pair sorts far faster than a row of two columns."""
    width = int(document.max(initial=0)) + 1
    packed = np.unique(owner * width + document)
    return packed // width, packed % width
