"""Scores a model on data sets, each query, text or pair by itself, so that a bootstrap can draw them.

    python -m benchmarks.evidence.score MODEL OUT MAX_LENGTH DATA…

writes OUT: `{"datasets": {NAME: {"metric", "score", "values": [a number per query, text or pair] or null}}}`; the mean
of the values is the score. A process of its own, because a benchmark of many runs must not keep a model in memory.

| data | values |
| --- | --- |
| retrieval | nDCG@10 of each query |
| classification | the share of the experiments in which each test text gets its label |
| sts | each pair's pseudo-value of Spearman's correlation (jackknife; Tukey, 1958), see `pseudo_values` |
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from harness.settings.environment import prepare_environment

if TYPE_CHECKING:
    from harness.evaluation.kinds.classification import ClassificationData
    from harness.evaluation.kinds.retrieval import RetrievalData
    from harness.evaluation.kinds.sts import STSData
    from harness.evaluation.runner import LoadedData
    from harness.search.encode import TextEncoder

QUERY_METRIC = "ndcg_at_10"


def main(model: str, out: str, max_length: str, *data: str) -> None:
    from harness.cli.parts.opened_model import open_model
    from harness.evaluation.runner import load
    from harness.files import replace_file

    encode = open_model(model, int(max_length), None, "fp32").encode
    scores = {name: scores_of(encode, part) for name, part in load(data).one_by_one()}
    Path(out).parent.mkdir(parents=True, exist_ok=True)
    replace_file(Path(out), json.dumps({"datasets": scores}) + "\n")
    print(", ".join(f"{name} {score['score']:.4f}" for name, score in scores.items()), flush=True)


def scores_of(encode: TextEncoder, loaded: LoadedData) -> dict[str, Any]:
    """The main metric of one data set, and its value for each query, text or pair."""
    from harness.evaluation.kinds.classification import ClassificationData
    from harness.evaluation.kinds.retrieval import RetrievalData
    from harness.evaluation.kinds.sts import STSData
    from harness.evaluation.kinds.table import main_metric_of
    from harness.evaluation.runner import evaluate

    (data,) = loaded.data.values()
    if isinstance(data, RetrievalData):
        return _scored(QUERY_METRIC, query_values(encode, data))
    if isinstance(data, ClassificationData):
        return _scored("accuracy", text_values(encode, data))
    if isinstance(data, STSData):
        return _scored("spearman", pair_values(encode, data))
    (metrics,) = evaluate(encode, loaded).values()
    metric = main_metric_of(metrics)
    return {"metric": metric, "score": metrics[metric], "values": None}


def _scored(metric: str, value_Q: np.ndarray) -> dict[str, Any]:
    return {"metric": metric, "score": float(value_Q.mean()), "values": value_Q.tolist()}


def query_values(encode: TextEncoder, data: RetrievalData) -> np.ndarray:
    """nDCG@10 of each query."""
    from harness.evaluation.kinds.retrieval import TOP_K, Retrieval
    from harness.search.cosine import Share, nearest_by_cosine

    query_QD, document_ND = Retrieval().encode(encode, data)
    share = Share(document_ND, 0, len(document_ND))
    nearest = nearest_by_cosine(query_QD, share, TOP_K + bool(data.not_ranked))
    return Retrieval().query_scores(data, nearest)[QUERY_METRIC]


def text_values(encode: TextEncoder, data: ClassificationData) -> np.ndarray:
    """Of each test text the share of the experiments in which it gets its label."""
    from harness.evaluation.kinds.classification import Classification, predicted_labels
    from harness.search.unit_rows import unit_rows

    train_ND, test_ND = map(unit_rows, Classification().encode(encode, data))
    label_N = np.array(data.test_labels)
    return np.mean([found == label_N for found in predicted_labels(train_ND, data.train_labels, test_ND)], axis=0)


def pair_values(encode: TextEncoder, data: STSData) -> np.ndarray:
    """Of each pair the pseudo-value of Spearman's correlation, see `pseudo_values`."""
    from harness.evaluation.kinds.sts import STS
    from harness.search.scores import pair_cosines
    from harness.search.unit_rows import unit_rows

    cosine_S = pair_cosines(*map(unit_rows, STS().encode(encode, data))).astype(np.float64)
    return pseudo_values(cosine_S, np.array(data.scores))


def pseudo_values(first_S: np.ndarray, second_S: np.ndarray) -> np.ndarray:
    """What each of n pairs adds to Spearman's correlation r: n · r - (n - 1) · r without it, moved to the mean r.

    A correlation is no mean over pairs. To first order it behaves as the mean of these values when pairs are drawn.
    """
    from scipy.stats import spearmanr

    def correlation(kept: np.ndarray) -> float:
        return float(spearmanr(first_S[kept], second_S[kept]).statistic)

    every = np.arange(len(first_S))
    whole, without_S = correlation(every), np.array([correlation(np.delete(every, i)) for i in every])
    return whole - (len(every) - 1) * (without_S - without_S.mean())


if __name__ == "__main__":
    prepare_environment()
    main(*sys.argv[1:])
