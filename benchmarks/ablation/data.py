"""The data of `python -m benchmarks.ablation`: three tasks to train on, and six kinds of held-out data.

    DATA_ROOT/…  →  FOLDER/train/, corpus/, retrieval/stackfaq_en    written by `runner/data.py`
                    FOLDER/train/similarity.jsonl, intents.jsonl
                    FOLDER/evaluation/KIND…

| held-out kind | data set | texts that no training data hold |
| --- | --- | --- |
| retrieval | stackfaq_en | the threads of the test queries |
| reranking | cranfield_en | the whole set; candidates: relevant documents, and those nearest by TF-IDF |
| sts | stsb_en | the test pairs |
| classification | banking77_en | the test texts (the classifier is fitted on training texts of the same intents) |
| clustering | banking77_en | all texts of these intents |
| pair_classification | stackfaq_en | the threads of the test queries; pairs: two queries of one or two threads |
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.feature_extraction.text import TfidfVectorizer

from benchmarks.runner.data import (
    RetrievalSize,
    per_label,
    read_documents,
    read_queries,
    read_rows,
    relevant_documents,
    sample,
    write_retrieval_set,
    write_rows,
)
from harness.evaluation.kinds.table import EvaluationKind

RETRIEVAL, RERANKING = "stackfaq_en", "cranfield_en"
HELD_OUT: dict[EvaluationKind, str] = {  # in FOLDER
    "retrieval": f"retrieval/{RETRIEVAL}",
    "reranking": "evaluation/reranking.jsonl",
    "sts": "evaluation/sts.jsonl",
    "classification": "evaluation/classification",
    "clustering": "evaluation/clustering.jsonl",
    "pair_classification": "evaluation/pair_classification.jsonl",
}


@dataclass(frozen=True, slots=True)
class AblationSize:
    """How many rows of each data set are used. None means all rows."""

    retrieval: RetrievalSize
    intents: int | None  # classes of the classification task; clustering uses as many other classes; None: half each
    texts_per_intent: int | None  # held-out texts per class, in each file of classification and in clustering
    reranking_queries: int | None
    most_positives: int  # largest number of positives of a reranking query
    reranking_negatives: int  # negatives of a reranking query
    sts_pairs: int | None
    duplicate_queries: int | None  # each gives one pair of label 1 and one of label 0


def write_data(root: Path, folder: Path, size: AblationSize) -> dict[str, dict[str, int]]:
    """Write all files and return the number of rows in each.

    Raises:
        ValueError: a file of the data is missing.
    """
    train_file = f"train/{RETRIEVAL}.train.jsonl.gz"
    rows = {RETRIEVAL: write_retrieval_set(root, folder, RETRIEVAL, train_file, size.retrieval)}
    rows["stsb_en"] = _write_sts(root / "sts" / "stsb_en", folder, size.sts_pairs)
    rows["banking77_en"] = _write_intents(root / "classification" / "banking77_en", folder, size)
    reranked = _reranking_rows(root / "retrieval" / RERANKING, size)
    pairs = _duplicate_pairs(root / "retrieval" / RETRIEVAL, size.duplicate_queries)
    write_rows(folder / HELD_OUT["reranking"], reranked)
    write_rows(folder / HELD_OUT["pair_classification"], pairs)
    rows[RERANKING] = {"queries to rerank": len(reranked)}
    rows[f"{RETRIEVAL} questions"] = {"pairs to classify": len(pairs)}
    return rows


def _write_sts(source: Path, folder: Path, count: int | None) -> dict[str, int]:
    train, test = read_rows(source / "train.jsonl.gz"), read_rows(source / "test.jsonl.gz")
    test = sample(test, count, "sts pairs")
    write_rows(folder / "train" / "similarity.jsonl", train)
    write_rows(folder / HELD_OUT["sts"], test)
    return {"training pairs": len(train), "test pairs": len(test)}


def _write_intents(source: Path, folder: Path, size: AblationSize) -> dict[str, int]:
    train, test = read_rows(source / "train.jsonl.gz"), read_rows(source / "test.jsonl.gz")
    labels = sorted({row["label"] for row in train})
    labels = sample(labels, len(labels), "intents")
    count = size.intents or len(labels) // 2
    trained_labels, clustered_labels = labels[:count], labels[count : 2 * count]
    rows = [row for row in train if row["label"] in trained_labels]
    fitted = per_label(train, trained_labels, size.texts_per_intent)
    tested = per_label(test, trained_labels, size.texts_per_intent)
    clustered = per_label(test, clustered_labels, size.texts_per_intent)
    write_rows(folder / "train" / "intents.jsonl", rows)
    write_rows(folder / HELD_OUT["classification"] / "train.jsonl", fitted)
    write_rows(folder / HELD_OUT["classification"] / "test.jsonl", tested)
    write_rows(folder / HELD_OUT["clustering"], clustered)
    return {
        "intents to train on": len(trained_labels),
        "training texts": len(rows),
        "texts the classifier is fitted on": len(fitted),
        "test texts": len(tested),
        "texts to cluster": len(clustered),
    }


def _reranking_rows(source: Path, size: AblationSize) -> list[dict[str, Any]]:
    documents, queries, relevant = read_documents(source), read_queries(source), relevant_documents(source)
    query_ids = sample(sorted(relevant), size.reranking_queries, "reranking queries")
    similarity_BN = _word_similarity([queries[key] for key in query_ids], list(documents.values()))
    rows = []
    for query, similarity_N in zip(query_ids, similarity_BN, strict=True):
        order = [list(documents)[i] for i in np.argsort(-similarity_N, kind="stable")]
        negatives = [key for key in order if key not in relevant[query]][: size.reranking_negatives]
        positives = sample(sorted(relevant[query]), size.most_positives, f"positives of {query}")
        texts = {"positive": [documents[key] for key in positives], "negative": [documents[key] for key in negatives]}
        rows.append({"query": queries[query], **texts})
    return rows


def _duplicate_pairs(source: Path, count: int | None) -> list[dict[str, Any]]:
    """Rows for pair classification: text1, text2, label. Queries with the same relevant documents ask the same question
    and get label 1.
    """
    queries, relevant = read_queries(source), relevant_documents(source)
    thread = {query: frozenset(grades) for query, grades in relevant.items()}
    queries_with_duplicates = sorted(query for query in thread if list(thread.values()).count(thread[query]) > 1)
    rows = []
    similarity_BB = _word_similarity(
        [queries[key] for key in queries_with_duplicates], [queries[key] for key in queries_with_duplicates]
    )
    for query in sample(queries_with_duplicates, count, "duplicate queries"):
        same_thread = [other for other in queries_with_duplicates if thread[other] == thread[query] and other != query]
        order = [
            queries_with_duplicates[i]
            for i in np.argsort(-similarity_BB[queries_with_duplicates.index(query)], kind="stable")
        ]
        other = next(key for key in order if not thread[key] & thread[query])
        for key, label in ((sample(same_thread, 1, f"pair of {query}")[0], 1), (other, 0)):
            rows.append({"text1": queries[query], "text2": queries[key], "label": label})
    return rows


def _word_similarity(queries: Sequence[str], documents: Sequence[str]) -> np.ndarray:
    """Cosine similarity [B, N] of TF-IDF word vectors."""
    vectoriser = TfidfVectorizer().fit([*queries, *documents])
    return (vectoriser.transform(queries) @ vectoriser.transform(documents).T).toarray()
