"""Scores of embeddings, with mteb's names and definitions.

Shapes: B queries, N documents, k ranks, D dimensions.
"""

from __future__ import annotations

import random
import warnings
from collections.abc import Mapping, Sequence

import numpy as np
import pytrec_eval
from scipy import stats
from sklearn.cluster import MiniBatchKMeans
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score, average_precision_score, f1_score, v_measure_score

from harness.evaluation.datasets import EvaluationKind

METRICS: dict[EvaluationKind, tuple[str, ...]] = {  # the main metric of each kind first; no two have the same one
    "retrieval": ("ndcg_at_10", "map_at_10", "map_at_100", "mrr_at_10", "recall_at_10", "recall_at_100"),
    "reranking": ("map", "mrr"),
    "sts": ("spearman", "pearson"),
    "classification": ("accuracy", "f1"),
    "clustering": ("v_measure",),
    "pair_classification": ("cosine_ap",),
}
TOP_K = 100
_SIMILARITY_BLOCK = 16 * 2**20  # entries of the similarity matrix held at a time (64 MiB)
_MEASURES = {"ndcg_cut.10", "map_cut.10,100", "recall.10,100", "recip_rank"}
_EXPERIMENTS, _SAMPLES_PER_LABEL, _MAX_ITERATIONS, _SEED = 10, 8, 100, 42  # mteb's AbsTaskClassification
_CLUSTERINGS, _CLUSTERED, _CLUSTERING_BATCH = 10, 2048, 512  # mteb's AbsTaskClusteringFast
CLUSTERING_TEXTS = 16_384  # at most, drawn from more (the same)


def normalised(rows_ND: np.ndarray) -> np.ndarray:
    """Rows divided by their length, float32; a zero row stays zero."""
    rows_ND = np.asarray(rows_ND, dtype=np.float32)
    length_N1 = np.linalg.norm(rows_ND, axis=1, keepdims=True)
    return rows_ND / np.maximum(length_N1, np.finfo(np.float32).tiny)


def search(query_BD: np.ndarray, document_ND: np.ndarray, k: int = TOP_K) -> tuple[np.ndarray, np.ndarray]:
    """The k documents of highest cosine per query, exactly: (index_Bk int64, score_Bk float32), best first.

    Among equal scores the document that comes first is taken first. Needs one block of similarities, not B × N.
    """
    query_BD, document_ND = normalised(query_BD), normalised(document_ND)
    num_queries, num_documents = len(query_BD), len(document_ND)
    k = min(k, num_documents)
    index_Bk = np.empty((num_queries, k), dtype=np.int64)
    score_Bk = np.empty((num_queries, k), dtype=np.float32)
    documents_per_block = max(k, min(num_documents, _SIMILARITY_BLOCK // 16))
    queries_per_block = max(1, _SIMILARITY_BLOCK // documents_per_block)
    for start in range(0, num_queries, queries_per_block):
        block = slice(start, start + queries_per_block)
        best_index, best_score = np.empty((0, 0), np.int64), np.empty((0, 0), np.float32)
        for first in range(0, num_documents, documents_per_block):
            similarity = query_BD[block] @ document_ND[first : first + documents_per_block].T
            index = np.broadcast_to(np.arange(first, first + similarity.shape[1]), similarity.shape)
            if first:
                similarity = np.concatenate([best_score, similarity], axis=1)
                index = np.concatenate([best_index, index], axis=1)
            column = _top_columns(similarity, min(k, similarity.shape[1]))
            best_score = np.take_along_axis(similarity, column, axis=1)
            best_index = np.take_along_axis(index, column, axis=1)
        index_Bk[block], score_Bk[block] = best_index, best_score
    return index_Bk, score_Bk


def _top_columns(score_BN: np.ndarray, k: int) -> np.ndarray:
    """The columns of each row's k highest scores, best first, the earlier column first among equals."""
    column_Bk = np.empty((len(score_BN), k), dtype=np.int64)
    for i, score_N in enumerate(score_BN):
        kth = np.partition(score_N, len(score_N) - k)[len(score_N) - k]
        higher = np.flatnonzero(score_N > kth)
        chosen = np.concatenate([higher, np.flatnonzero(score_N == kth)[: k - len(higher)]])
        column_Bk[i] = chosen[np.lexsort((chosen, -score_N[chosen]))]
    return column_Bk


def retrieval_scores(
    query_ids: Sequence[str],
    document_ids: Sequence[str],
    query_BD: np.ndarray,
    document_ND: np.ndarray,
    qrels: Mapping[str, Mapping[str, int]],
) -> dict[str, float]:
    """nDCG@10 (linear gain), MAP@10/@100, MRR@10, Recall@10/@100 by trec_eval, means over the queries.

    As in mteb, a document whose id equals the query's is ranked like any other.
    """
    index_Bk, score_Bk = search(query_BD, document_ND)
    run = {
        query: {document_ids[n]: float(s) for n, s in zip(index_k, score_k, strict=True)}
        for query, index_k, score_k in zip(query_ids, index_Bk, score_Bk, strict=True)
    }
    judged = {query: dict(qrels[query]) for query in query_ids}
    per_query = list(pytrec_eval.RelevanceEvaluator(judged, _MEASURES).evaluate(run).values())
    names = {"ndcg_at_10": "ndcg_cut_10", "map_at_10": "map_cut_10", "map_at_100": "map_cut_100"}
    scores = {name: float(np.mean([row[measure] for row in per_query])) for name, measure in names.items()}
    reciprocal_rank_B = np.array([row["recip_rank"] for row in per_query])
    scores["mrr_at_10"] = float(np.where(reciprocal_rank_B > 1 / 10.5, reciprocal_rank_B, 0.0).mean())
    for k in (10, 100):
        scores[f"recall_at_{k}"] = float(np.mean([row[f"recall_{k}"] for row in per_query]))
    return scores


def reranking_scores(
    query_BD: np.ndarray, document_ND: np.ndarray, relevant: Sequence[Sequence[bool]]
) -> dict[str, float]:
    """MAP and MRR@10 of each query's own documents in the order of their cosine, means over the queries.

    document_ND: the documents of the first query, then those of the second, ...; `relevant` says how many each has and
    which are relevant, at least one and not all. AP is scikit-learn's: equal cosines share a rank.
    """
    query_BD, document_ND = normalised(query_BD), normalised(document_ND)
    average_precisions, reciprocal_ranks, first = [], [], 0
    for query_D, relevant_n in zip(query_BD, relevant, strict=True):
        cosine_n = document_ND[first : first + len(relevant_n)] @ query_D
        first += len(relevant_n)
        average_precisions.append(average_precision_score(relevant_n, cosine_n))
        order_k = np.argsort(-cosine_n, kind="stable")[:10]
        found_k = np.flatnonzero(np.asarray(relevant_n)[order_k])
        reciprocal_ranks.append(1 / (1 + found_k[0]) if len(found_k) else 0.0)
    return {"map": float(np.mean(average_precisions)), "mrr": float(np.mean(reciprocal_ranks))}


def sts_scores(embedding1_SD: np.ndarray, embedding2_SD: np.ndarray, score_S: Sequence[float]) -> dict[str, float]:
    """Spearman's and Pearson's correlation of the cosines with the given scores; 0 where one side is constant."""
    cosine_S = np.einsum("sd,sd->s", normalised(embedding1_SD), normalised(embedding2_SD)).astype(np.float64)
    if np.ptp(cosine_S) == 0 or np.ptp(score_S) == 0:
        return {"spearman": 0.0, "pearson": 0.0}
    return {
        "spearman": float(stats.spearmanr(cosine_S, score_S).statistic),
        "pearson": float(stats.pearsonr(cosine_S, score_S).statistic),
    }


def training_samples(labels: Sequence[str]) -> list[list[int]]:
    """The rows that each of mteb's 10 classification experiments trains on: 8 per label, drawn with its seed."""
    order = list(range(len(labels)))
    experiments: list[list[int]] = []
    for _ in range(_EXPERIMENTS):
        np.random.RandomState(_SEED).shuffle(order)  # the same shuffle again, of the order shuffled before
        taken: dict[str, int] = {}
        chosen: list[int] = []
        for row in order:
            if taken.get(labels[row], 0) < _SAMPLES_PER_LABEL:
                taken[labels[row]] = taken.get(labels[row], 0) + 1
                chosen.append(row)
        experiments.append(chosen)
    return experiments


def classification_scores(
    train_ND: np.ndarray, train_labels: Sequence[str], test_ND: np.ndarray, test_labels: Sequence[str]
) -> dict[str, float]:
    """Accuracy and macro F1 of logistic regression, means over the experiments of `training_samples`.

    Only the rows of `train_ND` that `training_samples(train_labels)` names are read.
    """
    accuracies, f1_scores = [], []
    for rows in training_samples(train_labels):
        classifier = LogisticRegression(max_iter=_MAX_ITERATIONS, random_state=_SEED)
        with warnings.catch_warnings():  # mteb stops at 100 iterations, too
            warnings.simplefilter("ignore", ConvergenceWarning)
            classifier.fit(train_ND[rows], [train_labels[row] for row in rows])
        predicted = classifier.predict(test_ND)
        accuracies.append(accuracy_score(test_labels, predicted))
        f1_scores.append(f1_score(test_labels, predicted, average="macro"))
    return {"accuracy": float(np.mean(accuracies)), "f1": float(np.mean(f1_scores))}


def clustering_sample(num_texts: int) -> list[int]:
    """The texts that are embedded for clustering: all, or CLUSTERING_TEXTS drawn without repetition."""
    if num_texts <= CLUSTERING_TEXTS:
        return list(range(num_texts))
    return sorted(random.Random(_SEED).sample(range(num_texts), CLUSTERING_TEXTS))


def clustering_scores(embedding_ND: np.ndarray, labels: Sequence[str]) -> dict[str, float]:
    """V-measure of k-means with as many clusters as labels, mean over 10 draws of 2,048 texts with repetition.

    V-measure: the harmonic mean of homogeneity and completeness (Rosenberg and Hirschberg 2007).
    """
    generator, label_N = random.Random(_SEED), np.array(labels)
    scores = []
    for _ in range(_CLUSTERINGS):
        drawn = generator.choices(range(len(labels)), k=_CLUSTERED)
        clusters = MiniBatchKMeans(len(set(labels)), batch_size=_CLUSTERING_BATCH, n_init="auto", random_state=_SEED)
        with warnings.catch_warnings():  # of fewer different texts than labels: a draw may miss some
            warnings.simplefilter("ignore", ConvergenceWarning)
            scores.append(v_measure_score(label_N[drawn], clusters.fit_predict(embedding_ND[drawn])))
    return {"v_measure": float(np.mean(scores))}


def pair_classification_scores(
    embedding1_SD: np.ndarray, embedding2_SD: np.ndarray, same: Sequence[bool]
) -> dict[str, float]:
    """Average precision of "the same" by the pairs' cosines, as scikit-learn has it: equal cosines share a rank."""
    cosine_S = np.einsum("sd,sd->s", normalised(embedding1_SD), normalised(embedding2_SD))
    return {"cosine_ap": float(average_precision_score(same, cosine_S))}
