"""The table of all kinds of evaluation data."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from harness.evaluation.datasets import EvaluationData, EvaluationKind
from harness.evaluation.kinds.classification import Classification
from harness.evaluation.kinds.clustering import Clustering
from harness.evaluation.kinds.kind import Kind
from harness.evaluation.kinds.pair_classification import PairClassification
from harness.evaluation.kinds.reranking import Reranking
from harness.evaluation.kinds.retrieval import Retrieval
from harness.evaluation.kinds.sts import STS

KINDS: dict[EvaluationKind, Kind[Any]] = {
    "retrieval": Retrieval(),
    "reranking": Reranking(),
    "sts": STS(),
    "classification": Classification(),
    "clustering": Clustering(),
    "pair_classification": PairClassification(),
}
MAIN_METRIC: dict[EvaluationKind, str] = {name: kind.main_metric for name, kind in KINDS.items()}


def kind_of(data: EvaluationData) -> Kind[Any]:
    """The kind of evaluation data in memory."""
    return next(kind for kind in KINDS.values() if isinstance(data, kind.data_type))


def main_metric_of(metrics: Iterable[str]) -> str:
    """The main metric among the metrics of one data set. It is unique, because every kind has a different one."""
    return next(metric for metric in MAIN_METRIC.values() if metric in metrics)
