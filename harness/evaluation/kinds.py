"""What each kind of evaluation data encodes, and which scores it gives."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from harness.evaluation.datasets import (
    ClassificationData,
    ClusteringData,
    EvaluationData,
    RerankingData,
    RetrievalData,
    STSData,
)
from harness.evaluation.metrics import (
    classification_scores,
    clustering_sample,
    clustering_scores,
    pair_classification_scores,
    reranking_scores,
    retrieval_scores,
    sts_scores,
    training_samples,
)
from harness.types import EncodingRole

Encode = Callable[[Sequence[str], EncodingRole], np.ndarray]


def num_rows(data: EvaluationData) -> int:
    """Judged queries, pairs, texts, or the test rows of a classification."""
    match data:
        case RetrievalData() | RerankingData():
            return len(data.queries)
        case ClassificationData():
            return len(data.test_texts)
        case ClusteringData():
            return len(data.texts)
        case _:
            return len(data.texts1)


def embeddings_of(encode: Encode, data: EvaluationData) -> tuple[np.ndarray, ...]:
    """The tables of embeddings that `score` takes; a text that stands in a table several times is encoded once."""
    match data:
        case RetrievalData():
            documents = list(data.documents.values())
            return _unique(encode, list(data.queries.values()), "query"), _unique(encode, documents, "document")
        case RerankingData():
            documents = [text for texts in data.documents for text in texts]
            return _unique(encode, data.queries, "query"), _unique(encode, documents, "document")
        case ClassificationData():
            return _classification(encode, data)
        case ClusteringData():
            return (_unique(encode, [data.texts[row] for row in clustering_sample(len(data.texts))], "sentence"),)
        case _:
            both = _unique(encode, [*data.texts1, *data.texts2], "sentence")
            return both[: len(data.texts1)], both[len(data.texts1) :]


def score(data: EvaluationData, *tables: np.ndarray) -> dict[str, float]:
    """The metrics of the data's kind, from the tables of `embeddings_of` or equally many of their columns."""
    first_ND, second_ND = tables[0], tables[-1]
    match data:
        case RetrievalData():
            return retrieval_scores(list(data.queries), list(data.documents), first_ND, second_ND, data.qrels)
        case RerankingData():
            return reranking_scores(first_ND, second_ND, data.relevant)
        case STSData():
            return sts_scores(first_ND, second_ND, data.scores)
        case ClassificationData():
            return classification_scores(first_ND, data.train_labels, second_ND, data.test_labels)
        case ClusteringData():
            return clustering_scores(first_ND, [data.labels[row] for row in clustering_sample(len(data.labels))])
        case _:
            return pair_classification_scores(first_ND, second_ND, data.same)


def _unique(encode: Encode, texts: Sequence[str], role: EncodingRole) -> np.ndarray:
    """Rows for all texts, each different text encoded once."""
    position = {text: i for i, text in enumerate(dict.fromkeys(texts))}
    return encode(list(position), role)[[position[text] for text in texts]]


def _classification(encode: Encode, data: ClassificationData) -> tuple[np.ndarray, np.ndarray]:
    """(train, test) embeddings; training texts that no experiment draws stay zero."""
    drawn = sorted({row for rows in training_samples(data.train_labels) for row in rows})
    both = _unique(encode, [*(data.train_texts[row] for row in drawn), *data.test_texts], "sentence")
    train_ND = np.zeros((len(data.train_texts), both.shape[1]), dtype=both.dtype)
    train_ND[drawn] = both[: len(drawn)]
    return train_ND, both[len(drawn) :]
