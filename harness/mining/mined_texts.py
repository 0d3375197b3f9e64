"""Collects the input of a search for negatives: the distinct queries and documents, and the pairs to leave out."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from harness.data.ragged import expand_ranges
from harness.data.table.identity import identities
from harness.data.table.index import TaskData
from harness.search.request import Pairs
from harness.search.unique_texts import positions_in, unique_texts
from harness.types import ROLES


@dataclass(frozen=True, slots=True)
class MinedTexts:
    """The Q distinct queries of R training rows, and C distinct documents, both in the order of their files.

    Texts with equal tokens are one query or one document: the search embeds each once, and ranks it once. A pair is
    (query, document), as positions 0 … Q - 1 and 0 … C - 1.
    """

    query_id_Q: np.ndarray  # text ids in the training data
    query_of_row_R: np.ndarray  # position of each row's query
    document_id_C: np.ndarray  # text ids in the corpus; without a corpus, in the training data
    known_positives: Pairs  # (query, text id in the training data), each of a query once
    positive_pairs: Pairs  # the document is a known positive, in any row whose query is one text with the query
    equal_pairs: Pairs  # query and document are one text
    missing_positive_id_E: np.ndarray  # text ids, in the training data, of known positives that are not documents
    missing_positive_query_E: np.ndarray  # the query of each of these positives

    @property
    def excluded_pairs(self) -> Pairs:
        """Pairs that can never be a query and its negative."""
        both = zip(self.positive_pairs, self.equal_pairs, strict=True)
        query_E, document_E = (np.concatenate(ends) for ends in both)
        return query_E, document_E


def mined_texts(data: TaskData, corpus: TaskData | None) -> MinedTexts:
    """The queries of `data` and the documents of `corpus`; without a corpus, the documents of `data`.

    Both must have been opened with the same tokenizer, prompts and lengths. Then documents that read alike also encode
    alike, and equal tokens alone say which are one. Queries may have prompts of their own.
    """
    query_id_R = np.asarray(data.row_start_R1[:-1])
    first_row_Q, query_of_row_R = unique_texts(data.token_hash_G[query_id_R])
    documents = data if corpus is None else corpus
    document_id_X = np.flatnonzero(np.asarray(documents.role_G) == ROLES.index("document"))
    first_C, document_X = unique_texts(documents.token_hash_G[document_id_X])
    document_id_C = document_id_X[first_C]
    of_all_queries = _SameQueries(data, query_of_row_R)
    query_E, positive_id_E = of_all_queries(*expand_ranges(query_id_R + 1, query_id_R + 1 + data.num_positives_R))
    # -1: no document is one text with the positive
    document_E = positions_in(documents.token_hash_G[document_id_C], data.token_hash_G[positive_id_E])
    is_document_E = document_E >= 0
    row_Y, text_Y = _rows_and_equal_texts(data, documents, document_id_X)
    return MinedTexts(
        query_id_Q=query_id_R[first_row_Q],
        query_of_row_R=query_of_row_R,
        document_id_C=document_id_C,
        known_positives=(query_E, positive_id_E),
        positive_pairs=(query_E[is_document_E], document_E[is_document_E]),
        equal_pairs=of_all_queries(row_Y, document_X[text_Y]),
        missing_positive_id_E=positive_id_E[~is_document_E],
        missing_positive_query_E=query_E[~is_document_E],
    )


class _SameQueries:
    """Passes what belongs to a row's query on to every query that is one text with it.

    Queries with different tokens are one text if the same raw text has different prompts in different rows.
    """

    def __init__(self, data: TaskData, query_of_row_R: np.ndarray) -> None:
        self._identity_R = identities(data.keys(data.row_start_R1[:-1]))
        _, first_row_Q = np.unique(query_of_row_R, return_index=True)
        identity_Q = self._identity_R[first_row_Q]
        self._order_Q = np.argsort(identity_Q, kind="stable")
        self._sorted_Q = identity_Q[self._order_Q]

    def __call__(self, row_E: np.ndarray, value_E: np.ndarray) -> Pairs:
        """From (row, value) to (query, value), for all these queries."""
        wanted_E = self._identity_R[row_E]
        start_E, stop_E = (np.searchsorted(self._sorted_Q, wanted_E, side) for side in ("left", "right"))
        entry, place = expand_ranges(start_E, stop_E)
        return self._order_Q[place], value_E[entry]


def _rows_and_equal_texts(data: TaskData, documents: TaskData, document_id_X: np.ndarray) -> Pairs:
    """(row, position in `document_id_X`) of every row whose query reads or encodes like the document text."""
    pairs: list[Pairs] = []
    for document_hash_G, sorted_R, row_R in (
        (documents.text_hash_G, data.sorted_query_hash_R, data.sorted_query_row_R),
        (documents.token_hash_G, data.sorted_query_token_hash_R, data.sorted_query_token_row_R),
    ):
        wanted_X = document_hash_G[document_id_X]
        start_X, stop_X = np.searchsorted(sorted_R, wanted_X, "left"), np.searchsorted(sorted_R, wanted_X, "right")
        text, place = expand_ranges(start_X, stop_X)
        pairs.append((row_R[place], text))
    row_E, text_E = (np.concatenate(ends) for ends in zip(*pairs, strict=True))
    return row_E, text_E
