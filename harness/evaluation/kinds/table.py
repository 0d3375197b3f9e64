"""The table of all kinds of evaluation data."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Literal

from harness.evaluation.kinds.classification import Classification, ClassificationData
from harness.evaluation.kinds.clustering import Clustering, ClusteringData
from harness.evaluation.kinds.kind import Kind
from harness.evaluation.kinds.pair_classification import PairClassification, PairClassificationData
from harness.evaluation.kinds.reranking import Reranking, RerankingData
from harness.evaluation.kinds.retrieval import Retrieval, RetrievalData
from harness.evaluation.kinds.sts import STS, STSData

EvaluationKind = Literal["retrieval", "sts", "pair_classification", "reranking", "classification", "clustering"]
EvaluationData = RetrievalData | STSData | PairClassificationData | RerankingData | ClassificationData | ClusteringData
# A data set is of the first kind that finds its files: a folder whose test file holds pairs is no classification.
KINDS: dict[EvaluationKind, Kind[Any]] = {
    "retrieval": Retrieval(),
    "sts": STS(),
    "pair_classification": PairClassification(),
    "reranking": Reranking(),
    "classification": Classification(),
    "clustering": Clustering(),
}
MAIN_METRIC: dict[EvaluationKind, str] = {name: kind.main_metric for name, kind in KINDS.items()}


def kind_of(data: EvaluationData) -> Kind[Any]:
    """The kind of evaluation data in memory."""
    return next(kind for kind in KINDS.values() if isinstance(data, kind.data_type))


def main_metric_of(metrics: Iterable[str]) -> str:
    """The main metric of one data set: each of our kinds has a different one; a task of mteb has only one metric."""
    listed = list(metrics)
    return next((metric for metric in MAIN_METRIC.values() if metric in listed), listed[0])
