"""Which documents of a step are known positives of which query, and so never its negatives.

Known positives of a query are:
- the positives of every row, of any task, whose query text is equal, whether the step holds them or not;
- for a query that stands in a classification task, every text of its label;
- the text of the query itself: a document equal to the query is no evidence of dissimilarity.

Raw texts are compared, by 64-bit hash. Results are pairs of positions: `query` counts the given queries, `document` is
what the caller gave as the position of a document.
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
    """Pairs (query, document), sorted and each once, over all queries and all documents.

    document_E, document_hash_E: position of a document, and the hash of its raw text. A document may stand there with
    several hashes: raw texts that are one after truncation.

    With a classification task among `all_data` every two texts of one label are a pair, so that time and memory grow
    with (queries x documents / labels), at least 16 bytes a pair.
    """
    query, text = _query_and_positives(all_data, query_hash_B)
    pairs = [_join(query, text, document_hash_E, document_E)]  # all data sets at once, so that documents sort once
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

    candidate_BM: documents, -1 padded. Time and memory grow with the candidates and with the listed positives of the
    queries, however many texts a label has.
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
    """Pairs (query, other query), sorted and each once, of queries that mean the same.

    Two queries mean the same if their texts are equal, if one is a known positive of the other, or if they have a known
    positive in common: a listed one, or all texts of a label. The label is that of either query's text, or of one of
    its listed positives.
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
    """All given pairs, sorted and each once."""
    first, second = (np.concatenate(part) for part in zip(*pairs, strict=True))
    return _unique_pairs(first, second)


def _query_and_positives(all_data: Sequence[TaskData], query_hash_B: np.ndarray) -> Pairs:
    """(query, text hash) of each query's own text and of its listed positives."""
    found = [(np.arange(len(query_hash_B)), query_hash_B)]
    found += [_listed_positives(data, query_hash_B) for data in all_data if data.kind == "retrieval"]
    query, text = (np.concatenate(part) for part in zip(*found, strict=True))
    return query, text


def _listed_positives(data: TaskData, query_hash_B: np.ndarray) -> Pairs:
    """(query, hash of a positive) over all rows of `data` whose query text is equal."""
    query, place = expand_ranges(*data.rows_with_query(query_hash_B))
    row = data.sorted_query_row_R[place]
    first = data.row_start_R1[row] + 1
    entry, text_id = expand_ranges(first, first + data.num_positives_R[row])
    return query[entry], data.text_hash_G[text_id]


def _labels(data: TaskData, hash_U: np.ndarray) -> Pairs:
    """(position in `hash_U`, label) of each text that stands in `data`; a text may stand there under several labels."""
    assert data.label_R is not None
    position, place = expand_ranges(*data.rows_with_query(hash_U))
    return position, data.label_R[data.sorted_query_row_R[place]]


def _join(value: np.ndarray, key: np.ndarray, other_key: np.ndarray, other: np.ndarray) -> Pairs:
    """All (value, other) whose keys are equal."""
    entry, place = _matches(key, other_key)
    return value[entry], other[place]


def _matches(key: np.ndarray, other_key: np.ndarray) -> Pairs:
    """All (position in `key`, position in `other_key`) with equal keys: a sort-merge join."""
    order = np.argsort(other_key, kind="stable")
    sorted_key = other_key[order]
    start, stop = np.searchsorted(sorted_key, key, "left"), np.searchsorted(sorted_key, key, "right")
    entry, place = expand_ranges(start, stop)
    return entry, order[place]


def _is_in(first: np.ndarray, second: np.ndarray, other_first: np.ndarray, other_second: np.ndarray) -> np.ndarray:
    """Whether each pair (first, second) is one of the other pairs."""
    values, code = np.unique(np.concatenate([second, other_second]), return_inverse=True)
    packed = np.concatenate([first, other_first]) * len(values) + code
    return np.isin(packed[: len(first)], packed[len(first) :])


def _unique_pairs(first: np.ndarray, second: np.ndarray) -> Pairs:
    """Pairs of positions, sorted and each once. Packed into one int64 each: that sorts far faster than two columns."""
    width = int(second.max(initial=0)) + 1
    packed = np.unique(first * width + second)
    return packed // width, packed % width
