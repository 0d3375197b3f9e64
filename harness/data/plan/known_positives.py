"""Finds the documents of a step that are known positives of a query. They must never be its negatives.

The known positives of a query are:
- the positives of every row, of any task, that has the same query, even if the row is not in the step;
- if the query is in a classification task, every text with the same label;
- the query itself, because a document equal to the query is certainly not dissimilar to it.

Which texts are one and the same says `harness/data/table/identity.py`: those that encode alike, and those that read
alike. `links` are texts that may join two others; they are needed if tasks or roles have different prompts or lengths.
Results are pairs of positions: `query` is a position in the given queries, `document` a position that the caller gave.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from harness.data.ragged import expand_ranges, matches
from harness.data.table.identity import TextKeys, identities
from harness.data.table.index import TaskData

Pairs = tuple[np.ndarray, np.ndarray]  # two arrays of equal length
NO_LINKS = TextKeys(np.empty(0, dtype=np.uint64), np.empty(0, dtype=np.uint64))


def known_positive_pairs(
    all_data: Sequence[TaskData],
    query: TextKeys,
    document: TextKeys,
    document_E: np.ndarray,
    links: TextKeys = NO_LINKS,
) -> Pairs:
    """All pairs (query, document) in which the document is a known positive of the query; sorted and distinct.

    document_E: position of each document text. A document may occur with several texts, because different raw texts may
    be equal after truncation.

    With a classification task among `all_data`, every two texts with the same label are a pair. Time and memory then
    grow with (queries x documents / labels), at least 16 bytes per pair.
    """
    known = _KnownTexts(all_data, query, document, links)
    pairs = [_join(known.query_F, known.identity_F, known.other_identity_E, document_E)]  # sorts the documents once
    for data in all_data:
        if data.kind == "classification":
            query_L, label_L = known.labels_of_queries(data)
            entry, document_label = known.labels_of_others(data)
            pairs.append(_join(query_L, label_L, document_label, document_E[entry]))
    return merge_pairs(*pairs)


def known_positives_among(
    all_data: Sequence[TaskData],
    query: TextKeys,
    document: TextKeys,
    document_E: np.ndarray,
    candidate_BM: np.ndarray,
    links: TextKeys = NO_LINKS,
) -> Pairs:
    """The pairs of `known_positive_pairs` whose document is a candidate of its query.

    candidate_BM: positions of documents, -1 padded. Time and memory grow with the number of candidates and of the
    queries' listed positives, but not with the number of texts per label.
    """
    owner, column = np.nonzero(candidate_BM >= 0)
    owner, candidate = _unique_pairs(owner, candidate_BM[owner, column])
    entry, place = matches(candidate, document_E)
    owner, candidate = owner[entry], candidate[entry]
    known = _KnownTexts(all_data, query, document, links)
    is_positive = _is_in(owner, known.other_identity_E[place], known.query_F, known.identity_F)
    for data in all_data:
        if data.kind == "classification":
            labelled, label = known.labels_of_others(data)
            entry, which = matches(place, labelled)
            shares_label = _is_in(owner[entry], label[which], *known.labels_of_queries(data))
            is_positive[entry[shares_label]] = True
    return _unique_pairs(owner[is_positive], candidate[is_positive])


def same_meaning_pairs(
    all_data: Sequence[TaskData], query: TextKeys, other: TextKeys, other_E: np.ndarray, links: TextKeys = NO_LINKS
) -> Pairs:
    """Pairs (query, other query) of queries that mean the same; sorted and distinct.

    Two queries mean the same if they are one text, if one is a known positive of the other, or if they share a known
    positive. They share one if they have a listed positive in common, or a label. A query has the labels of its own
    text and of its listed positives.
    """
    entry, other_keys, _ = _texts_and_positives(all_data, other, links)
    known = _KnownTexts(all_data, query, other_keys, links)
    pairs = [_join(known.query_F, known.identity_F, known.other_identity_E, other_E[entry])]
    for data in all_data:
        if data.kind == "classification":
            query_L, label_L = known.labels_of_queries(data, with_positives=True)
            place, other_label = known.labels_of_others(data)
            pairs.append(_join(query_L, label_L, other_label, other_E[entry[place]]))
    return merge_pairs(*pairs)


def merge_pairs(*pairs: Pairs) -> Pairs:
    """The union of the given pairs, sorted and distinct."""
    first, second = (np.concatenate(arrays) for arrays in zip(*pairs, strict=True))
    return _unique_pairs(first, second)


class _KnownTexts:
    """The texts of queries and their listed positives, and which of the others (documents, queries) they are one with.

    Suffix F: an entry for each text of a query (its own, in all spellings that are one text with it, then its listed
    positives). `query_F` is its query.
    """

    def __init__(self, all_data: Sequence[TaskData], query: TextKeys, other: TextKeys, links: TextKeys) -> None:
        self.query_F, keys, self._num_own = _texts_and_positives(all_data, query, links)
        self._keys = TextKeys.concatenate([keys, other, links])
        self._identity = identities(self._keys)
        self._other = slice(len(keys), len(keys) + len(other))
        self.identity_F, self.other_identity_E = self._identity[: len(keys)], self._identity[self._other]

    def labels_of_queries(self, data: TaskData, *, with_positives: bool = False) -> Pairs:
        """(query, label) of each query that occurs in `data`. with_positives: also where a listed positive does."""
        entry, label = self._labels(data)
        is_counted = entry < (len(self.query_F) if with_positives else self._num_own)
        return self.query_F[entry[is_counted]], label[is_counted]

    def labels_of_others(self, data: TaskData) -> Pairs:
        """(entry of `other`, label) of each of the others that occurs in `data`."""
        entry, label = self._labels(data)
        is_other = (entry >= self._other.start) & (entry < self._other.stop)
        return entry[is_other] - self._other.start, label[is_other]

    def _labels(self, data: TaskData) -> Pairs:
        """(entry of all texts, label): a text has the labels of all texts that it is one with, maybe several."""
        assert data.label_R is not None
        entry, row = data.rows_with_query(self._keys)
        identity, label = _unique_pairs(self._identity[entry], data.label_R[row].astype(np.int64))
        text, place = matches(self._identity, identity)
        return text, label[place]


def _texts_and_positives(
    all_data: Sequence[TaskData], query: TextKeys, links: TextKeys
) -> tuple[np.ndarray, TextKeys, int]:
    """(query, keys of a text) of each query's own texts, then of its listed positives; and the number of own texts."""
    owner, keys, rows = _rows_of_same_query(all_data, query, links)
    owners, texts = [owner], [keys]
    for data, (row_owner, row) in zip(all_data, rows, strict=True):
        if data.kind == "retrieval":
            first = data.row_start_R1[row] + 1
            entry, text_id = expand_ranges(first, first + data.num_positives_R[row])
            owners.append(row_owner[entry])
            texts.append(data.keys(text_id))
    return np.concatenate(owners), TextKeys.concatenate(texts), len(owner)


def _rows_of_same_query(
    all_data: Sequence[TaskData], query: TextKeys, links: TextKeys
) -> tuple[np.ndarray, TextKeys, list[Pairs]]:
    """All texts that are one with a query, as (query, keys); and, per source, the (query, row) pairs of rows with it.

    A row that is found through one hash may have another second hash. Rows with that hash are searched next, until
    there is none left. A row that reads alike and also encodes alike, as nearly all do, needs no second search.
    """
    owner, keys = np.arange(len(query)), query
    new_owner, new = owner, keys
    rows: list[list[Pairs]] = [[(owner[:0], owner[:0])] for _ in all_data]
    while len(new_owner):
        found = [_linked(new, links)] if len(links) else []
        for pairs, data in zip(rows, all_data, strict=True):
            if data.kind in ("retrieval", "classification"):
                entry, row = data.rows_with_query(new)
                pairs.append((new_owner[entry], row))
                found.append((entry, data.keys(data.row_start_R1[row])))
        new_owner, new = _not_yet_known(new_owner, new, found)
        is_known = _is_in(new_owner, new.raw_E, owner, keys.raw_E) & _is_in(new_owner, new.token_E, owner, keys.token_E)
        new_owner, new = new_owner[~is_known], new[~is_known]
        owner, keys = np.concatenate([owner, new_owner]), TextKeys.concatenate([keys, new])
    return owner, keys, [merge_pairs(*pairs) for pairs in rows]


def _not_yet_known(
    owner: np.ndarray, keys: TextKeys, found: Sequence[tuple[np.ndarray, TextKeys]]
) -> tuple[np.ndarray, TextKeys]:
    """(query, keys) of the found texts that differ in a hash from the text that they were found by."""
    differs = [np.flatnonzero(~texts.agree(keys[entry])) for entry, texts in found]
    owners = [owner[entry[places]] for (entry, _), places in zip(found, differs, strict=True)]
    texts = [texts[places] for (_, texts), places in zip(found, differs, strict=True)]
    return np.concatenate([owner[:0], *owners]), TextKeys.concatenate([NO_LINKS, *texts])


def _linked(keys: TextKeys, links: TextKeys) -> tuple[np.ndarray, TextKeys]:
    """(position in `keys`, keys of a link) of every link that reads or encodes like one of the texts."""
    by_raw, by_token = matches(keys.raw_E, links.raw_E), matches(keys.token_E, links.token_E)
    entry, place = merge_pairs(by_raw, by_token)
    return entry, links[place]


def _join(value: np.ndarray, key: np.ndarray, other_key: np.ndarray, other: np.ndarray) -> Pairs:
    """All pairs (value, other) whose keys are equal."""
    entry, place = matches(key, other_key)
    return value[entry], other[place]


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
