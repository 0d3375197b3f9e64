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

from harness.data.distinct import Pairs, distinct_pairs, is_among, merge_pairs, pairs_among
from harness.data.plan.query_texts import NO_LINKS, QueryTexts, RowsOfTexts, query_texts, without_repeats
from harness.data.ragged import matches
from harness.data.table.identity import TextKeys, identities
from harness.data.table.index import TaskData

_MOST_BITS = 25  # of the numbers by which `_Filter` looks up hashes: 32 MB


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
    known = _KnownTexts(all_data, query_texts(all_data, query, links), document, links)
    pairs = [_join(known.group_F, known.identity_F, known.other_identity_E, document_E)]
    for data in all_data:
        if data.kind == "classification":
            group_L, label_L = known.labels_of_groups(data)
            entry, document_label = known.labels_of_others(data)
            pairs.append(_join(group_L, label_L, document_label, document_E[entry]))
    return _of_members(merge_pairs(*pairs), known.texts.group_B)


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
    distinct queries' rows, but not with the number of texts per label.
    """
    owner, column = np.nonzero(candidate_BM >= 0)
    owner, candidate = distinct_pairs(owner, candidate_BM[owner, column])
    entry, place = matches(candidate, document_E)
    owner, candidate = owner[entry], candidate[entry]
    known = _KnownTexts(all_data, query_texts(all_data, query, links), document, links)
    group = known.texts.group_B[owner]
    is_positive = pairs_among(group, known.other_identity_E[place], (known.group_F, known.identity_F))
    for data in all_data:
        if data.kind == "classification":
            labelled, label = known.labels_of_others(data)
            entry, which = matches(place, labelled)
            shares_label = pairs_among(group[entry], label[which], known.labels_of_groups(data))
            is_positive[entry[shares_label]] = True
    return distinct_pairs(owner[is_positive], candidate[is_positive])


def same_meaning_pairs(
    all_data: Sequence[TaskData], query: TextKeys, other: TextKeys, other_E: np.ndarray, links: TextKeys = NO_LINKS
) -> Pairs:
    """Pairs (query, other query) of queries that mean the same; sorted and distinct.

    Two queries mean the same if they are one text, if one is a known positive of the other, or if they share a known
    positive. They share one if they have a listed positive in common, or a label. A query has the labels of its own
    text and of its listed positives.
    """
    others = query_texts(all_data, other, links)
    group_E, keys_E = others.positives(_all_wanted)
    group_E = np.concatenate([others.group_Z, group_E])
    has_labels = any(data.kind == "classification" for data in all_data)
    texts = query_texts(all_data, query, links)
    known = _KnownTexts(all_data, texts, TextKeys.concatenate([others.keys, keys_E]), links, all_positives=has_labels)
    pairs = [_join(known.group_F, known.identity_F, known.other_identity_E, group_E)]
    for data in all_data:
        if data.kind == "classification":
            group_L, label_L = known.labels_of_groups(data, with_positives=True)
            entry, other_label = known.labels_of_others(data)
            pairs.append(_join(group_L, label_L, other_label, group_E[entry]))
    query_group, other_group = merge_pairs(*pairs)
    entry, place = matches(other_group, others.group_B)
    return _of_members((query_group[entry], other_E[place]), texts.group_B)


class _KnownTexts:
    """The texts of queries and their listed positives, and which of the others (documents, queries) they are one with.

    Suffix F: an entry for each text of a group of queries that are one text: its own, in all spellings that are one
    text with it, then its listed positives. `group_F` is the group.
    """

    def __init__(
        self,
        all_data: Sequence[TaskData],
        texts: QueryTexts,
        other: TextKeys,
        links: TextKeys,
        *,
        all_positives: bool = False,
    ) -> None:
        """all_positives: also those that no other text is one with. Only their labels can matter."""
        self.texts, self._num_own = texts, len(texts.keys)
        group, positives = (
            texts.positives(_all_wanted)
            if all_positives
            else _positives_that_meet(texts, TextKeys.concatenate([texts.keys, other, links]))
        )
        self.group_F = np.concatenate([texts.group_Z, group])
        self._keys = TextKeys.concatenate([texts.keys, positives, other, links])
        self._identity = identities(self._keys)
        self._other = slice(len(self.group_F), len(self.group_F) + len(other))
        self.identity_F, self.other_identity_E = self._identity[: len(self.group_F)], self._identity[self._other]

    def labels_of_groups(self, data: TaskData, *, with_positives: bool = False) -> Pairs:
        """(group, label) of each group that occurs in `data`. with_positives: also where a listed positive does."""
        entry, label = self._labels(data)
        is_counted = entry < (len(self.group_F) if with_positives else self._num_own)
        return distinct_pairs(self.group_F[entry[is_counted]], label[is_counted])

    def labels_of_others(self, data: TaskData) -> Pairs:
        """(entry of `other`, label) of each of the others that occurs in `data`."""
        entry, label = self._labels(data)
        is_other = (entry >= self._other.start) & (entry < self._other.stop)
        return entry[is_other] - self._other.start, label[is_other]

    def _labels(self, data: TaskData) -> Pairs:
        """(entry of all texts, label): a text has the labels of all texts that it is one with, maybe several."""
        assert data.label_R is not None
        identity, keys = without_repeats(self._identity, self._keys)
        pairs = [(identity[:0], identity[:0])]
        for text, row in RowsOfTexts(data, keys).visit():
            pairs.append(distinct_pairs(identity[text], data.label_R[row].astype(np.int64)))
        identity, label = merge_pairs(*pairs)
        entry, place = matches(self._identity, identity)
        return entry, label[place]


class _Filter:
    """Tells which texts may have a hash in common with some texts: nearly all that have none are recognised."""

    def __init__(self, keys: TextKeys) -> None:
        bits = min(max(20, (64 * len(keys)).bit_length()), _MOST_BITS)
        self._shift = np.uint64(64 - bits)
        self._is_hash = np.zeros(1 << bits, dtype=bool)
        self.add(keys)

    def add(self, keys: TextKeys) -> None:
        for hash_E in (keys.raw_E, keys.token_E):
            self._is_hash[self._place(hash_E)] = True

    def may_have(self, hash_E: np.ndarray) -> np.ndarray:
        return self._is_hash[self._place(hash_E)]

    def may_meet(self, keys: TextKeys) -> np.ndarray:
        return self.may_have(keys.token_E) | self.may_have(keys.raw_E)

    def _place(self, hash_E: np.ndarray) -> np.ndarray:
        return (hash_E >> self._shift).astype(np.int64)


def _positives_that_meet(texts: QueryTexts, others: TextKeys) -> tuple[np.ndarray, TextKeys]:
    """(group, keys) of all listed positives that are one with one of the others, and maybe of some more.

    A positive that reads like another text but encodes otherwise may join further positives to it. Then all positives
    are examined again with its hashes.
    """
    known = _Filter(others)
    while True:
        group, keys = texts.positives(known.may_meet)
        has_new = np.flatnonzero(~(known.may_have(keys.raw_E) & known.may_have(keys.token_E)))
        if len(has_new):  # the filter may err, so look for the other hash itself
            is_raw, is_token = (
                is_among(one[has_new], other)
                for one, other in ((keys.raw_E, others.raw_E), (keys.token_E, others.token_E))
            )
            has_new = has_new[is_raw | is_token]
        if not len(has_new):
            return group, keys
        others = TextKeys.concatenate([others, keys[has_new]])
        known.add(keys[has_new])


def _all_wanted(keys: TextKeys) -> np.ndarray:
    return np.ones(len(keys), dtype=bool)


def _of_members(pairs: Pairs, group_B: np.ndarray) -> Pairs:
    """The pairs (query, value) of every query of a group, from pairs (group, value); sorted and distinct."""
    group, value = pairs
    entry, query = matches(group, group_B)
    return distinct_pairs(query, value[entry])


def _join(value: np.ndarray, key: np.ndarray, other_key: np.ndarray, other: np.ndarray) -> Pairs:
    """All distinct pairs (value, other) whose keys are equal."""
    entry, place = matches(key, other_key)
    return value[entry], other[place]
