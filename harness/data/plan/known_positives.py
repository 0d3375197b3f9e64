"""Finds the documents of a step that are known positives of a query. They must never be its negatives.

The known positives of a query are:
- the positives of every row, of any task, that has the same query text, even if the row is not in the step;
- if the query's text is in a classification task, every text with the same label;
- the query's own text, because a document equal to the query is certainly not dissimilar to it.

Texts are compared before tokenisation, by 64-bit hash. Results are pairs of positions: `query` is a position in the
given queries, `document` a position that the caller gave.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from harness.data.ragged import expand_ranges
from harness.data.table.index import TaskData

Pairs = tuple[np.ndarray, np.ndarray]  # two arrays of equal length


def known_positive_pairs(
    all_data: Sequence[TaskData], query_hash_B: np.ndarray, document_hash_E: np.ndarray, document_E: np.ndarray
) -> Pairs:
    """All pairs (query, document) in which the document is a known positive of the query; sorted and distinct.

    document_E, document_hash_E: position of a document, and the hash of its raw text. A document may occur with several
    hashes, because different raw texts may be equal after truncation.

    With a classification task among `all_data`, every two texts with the same label are a pair. Time and memory then
    grow with (queries x documents / labels), at least 16 bytes per pair.
    """
    query, text = _query_and_positives(all_data, query_hash_B)
    pairs = [_join(query, text, document_hash_E, document_E)]  # all data sets in one join: it sorts the documents once
    for data in all_data:
        if data.kind == "classification":
            query, query_label = _labels(data, query_hash_B)
            entry, document_label = _labels(data, document_hash_E)
            pairs.append(_join(query, query_label, document_label, document_E[entry]))
    return merge_pairs(*pairs)


def known_positives_among(
    all_data: Sequence[TaskData],
    query_hash_B: np.ndarray,
    document_hash_E: np.ndarray,
    document_E: np.ndarray,
    candidate_BM: np.ndarray,
) -> Pairs:
    """The pairs of `known_positive_pairs` whose document is a candidate of its query.

    candidate_BM: positions of documents, -1 padded. Time and memory grow with the number of candidates and of the
    queries' listed positives, but not with the number of texts per label.
    """
    query, column = np.nonzero(candidate_BM >= 0)
    query, candidate = _unique_pairs(query, candidate_BM[query, column])
    entry, place = _matches(candidate, document_E)
    query, candidate_hash, document = query[entry], document_hash_E[place], document_E[place]
    is_positive = candidate_hash == query_hash_B[query]
    for data in all_data:
        if data.kind == "retrieval":
            is_positive |= _is_in(query, candidate_hash, *_listed_positives(data, query_hash_B))
        elif data.kind == "classification":
            entry, candidate_label = _labels(data, candidate_hash)
            shares_label = _is_in(query[entry], candidate_label, *_labels(data, query_hash_B))
            is_positive[entry[shares_label]] = True
    return _unique_pairs(query[is_positive], document[is_positive])


def same_meaning_pairs(
    all_data: Sequence[TaskData], query_hash_B: np.ndarray, other_hash_E: np.ndarray, other_E: np.ndarray
) -> Pairs:
    """Pairs (query, other query) of queries that mean the same; sorted and distinct.

    Two queries mean the same if their texts are equal, if one is a known positive of the other, or if they share a
    known positive. They share one if they have a listed positive in common, or a label. A query has the labels of its
    own text and of its listed positives.
    """
    query, text = _query_and_positives(all_data, query_hash_B)
    entry, other_text = _query_and_positives(all_data, other_hash_E)
    pairs = [_join(query, text, other_text, other_E[entry])]
    for data in all_data:
        if data.kind == "classification":
            place, label = _labels(data, text)
            other_place, other_label = _labels(data, other_text)
            pairs.append(_join(query[place], label, other_label, other_E[entry[other_place]]))
    return merge_pairs(*pairs)


def merge_pairs(*pairs: Pairs) -> Pairs:
    """The union of the given pairs, sorted and distinct."""
    first, second = (np.concatenate(arrays) for arrays in zip(*pairs, strict=True))
    return _unique_pairs(first, second)


def _query_and_positives(all_data: Sequence[TaskData], query_hash_B: np.ndarray) -> Pairs:
    """(query, text hash) of each query's own text and of its listed positives."""
    pairs = [(np.arange(len(query_hash_B)), query_hash_B)]
    pairs += [_listed_positives(data, query_hash_B) for data in all_data if data.kind == "retrieval"]
    query, text = (np.concatenate(arrays) for arrays in zip(*pairs, strict=True))
    return query, text


def _listed_positives(data: TaskData, query_hash_B: np.ndarray) -> Pairs:
    """(query, hash of a positive) over all rows of `data` that have the same query text."""
    query, place = expand_ranges(*data.rows_with_query(query_hash_B))
    row = data.sorted_query_row_R[place]
    first = data.row_start_R1[row] + 1
    entry, text_id = expand_ranges(first, first + data.num_positives_R[row])
    return query[entry], data.text_hash_G[text_id]


def _labels(data: TaskData, hash_U: np.ndarray) -> Pairs:
    """(position in `hash_U`, label) of each text that occurs in `data`; a text may occur with several labels."""
    assert data.label_R is not None
    position, place = expand_ranges(*data.rows_with_query(hash_U))
    return position, data.label_R[data.sorted_query_row_R[place]]


def _join(value: np.ndarray, key: np.ndarray, other_key: np.ndarray, other: np.ndarray) -> Pairs:
    """All pairs (value, other) whose keys are equal."""
    entry, place = _matches(key, other_key)
    return value[entry], other[place]


def _matches(key: np.ndarray, other_key: np.ndarray) -> Pairs:
    """All pairs (position in `key`, position in `other_key`) with equal keys: a sort-merge join."""
    order = np.argsort(other_key, kind="stable")
    sorted_key = other_key[order]
    start, stop = np.searchsorted(sorted_key, key, "left"), np.searchsorted(sorted_key, key, "right")
    entry, place = expand_ranges(start, stop)
    return entry, order[place]


def _is_in(first: np.ndarray, second: np.ndarray, other_first: np.ndarray, other_second: np.ndarray) -> np.ndarray:
    """For each pair (first, second), whether it is among the pairs (other_first, other_second)."""
    values, code = np.unique(np.concatenate([second, other_second]), return_inverse=True)
    packed = np.concatenate([first, other_first]) * len(values) + code
    return np.isin(packed[: len(first)], packed[len(first) :])


def _unique_pairs(first: np.ndarray, second: np.ndarray) -> Pairs:
    """Pairs of positions, sorted and distinct. Each pair is packed into one int64, which sorts far faster."""
    width = int(second.max(initial=0)) + 1
    packed = np.unique(first * width + second)
    return packed // width, packed % width
