"""Collects the input of a search for negatives: the distinct queries and documents, and the pairs to leave out."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from harness.data.ragged import expand_ranges
from harness.data.table.index import TaskData
from harness.search.request import Pairs
from harness.search.unique_texts import positions_in, unique_texts
from harness.types import ROLES


@dataclass(frozen=True, slots=True)
class MinedTexts:
    """The Q distinct query texts of R training rows, and C distinct document texts, both in the order of their files.

    A pair is (query, document), as positions 0 … Q - 1 and 0 … C - 1.
    """

    query_id_Q: np.ndarray  # text ids in the training data
    query_of_row_R: np.ndarray  # position of each row's query
    document_id_C: np.ndarray  # text ids in the corpus; without a corpus, in the training data
    positive_pairs: Pairs  # the document is a known positive, in any row with the same query text
    equal_pairs: Pairs  # query and document are the same text
    missing_positive_id_E: np.ndarray  # text ids, in the training data, of known positives that are not documents
    missing_positive_query_E: np.ndarray  # the query of each of these positives

    @property
    def excluded_pairs(self) -> Pairs:
        """Pairs that can never be a query and its negative."""
        both = zip(self.positive_pairs, self.equal_pairs, strict=True)
        query_E, document_E = (np.concatenate(ends) for ends in both)
        return query_E, document_E


def mined_texts(data: TaskData, corpus: TaskData | None) -> MinedTexts:
    """The queries of `data` and the documents of `corpus`; without a corpus, the documents of `data`."""
    query_id_R = np.asarray(data.row_start_R1[:-1])
    first_row_Q, query_of_row_R = unique_texts(data.text_hash_G[query_id_R])
    query_id_Q = query_id_R[first_row_Q]
    documents = data if corpus is None else corpus
    document_id_X = np.flatnonzero(np.asarray(documents.role_G) == ROLES.index("document"))
    document_id_C = document_id_X[unique_texts(documents.text_hash_G[document_id_X])[0]]
    first_positive_id_R = query_id_R + 1
    row_E, positive_id_E = expand_ranges(first_positive_id_R, first_positive_id_R + data.num_positives_R)
    query_E = query_of_row_R[row_E]
    hash_C = documents.text_hash_G[document_id_C]
    document_E = positions_in(hash_C, data.text_hash_G[positive_id_E])  # -1: no document is equal to the positive
    document_Q = positions_in(hash_C, data.text_hash_G[query_id_Q])
    is_document_E, equal_query_Y = document_E >= 0, np.flatnonzero(document_Q >= 0)
    return MinedTexts(
        query_id_Q=query_id_Q,
        query_of_row_R=query_of_row_R,
        document_id_C=document_id_C,
        positive_pairs=(query_E[is_document_E], document_E[is_document_E]),
        equal_pairs=(equal_query_Y, document_Q[equal_query_Y]),
        missing_positive_id_E=positive_id_E[~is_document_E],
        missing_positive_query_E=query_E[~is_document_E],
    )
