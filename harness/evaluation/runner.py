"""From an encode function and paths to scores, and from scores to a table."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np
from rich.table import Table

from harness.data.locate import dataset_name
from harness.evaluation.datasets import (
    ClassificationData,
    EvaluationData,
    RetrievalData,
    STSData,
    load_evaluation_data,
)
from harness.evaluation.metrics import (
    classification_scores,
    normalised,
    retrieval_scores,
    sts_scores,
    training_samples,
)
from harness.types import TaskKind, TextRole

Encode = Callable[[Sequence[str], TextRole], np.ndarray]
Results = dict[str, dict[str, float]]
MAIN_METRIC: dict[TaskKind, str] = {"retrieval": "ndcg_at_10", "sts": "spearman", "classification": "accuracy"}


def evaluate(encode: Encode, paths: Sequence[str], matryoshka_dims: Sequence[int] | None = None) -> Results:
    """Metrics of every data set: `{data set: {metric: value}}`, with mteb's metric names.

    `encode(texts, role)` gives float32 [n, D]; every rank calls it with the same texts and gets the same rows. STS and
    classification texts take the role `query`. With `matryoshka_dims` the main metric is given for each prefix of the
    embedding too, as `METRIC@DIM` (`ndcg_at_10@128`); prefixes are divided by their length.

    Raises:
        ValueError: a data set cannot be read, an embedding is not finite, or a Matryoshka dim is larger than D.
    """
    data = {name: load_evaluation_data(path) for name, path in zip(dataset_name(paths), paths, strict=True)}
    return {name: _evaluate_one(encode, name, one, matryoshka_dims or ()) for name, one in data.items()}


def _evaluate_one(encode: Encode, name: str, data: EvaluationData, matryoshka_dims: Sequence[int]) -> dict[str, float]:
    if isinstance(data, RetrievalData):
        embeddings = (
            _encode_unique(encode, list(data.queries.values()), "query"),
            _encode_unique(encode, list(data.documents.values()), "document"),
        )
    elif isinstance(data, STSData):
        both = _encode_unique(encode, [*data.texts1, *data.texts2], "query")
        embeddings = (both[: len(data.texts1)], both[len(data.texts1) :])
    else:
        embeddings = _encode_classification(encode, data)
    for table in embeddings:
        if not np.isfinite(table).all():
            raise ValueError(
                f"{name}: got embeddings with inf or nan, expected finite numbers; lower training.learning_rate "
                "or set training.precision: fp32"
            )
    metrics = _score(data, *embeddings)
    width = embeddings[0].shape[1]
    for dim in matryoshka_dims:
        if not 1 <= dim <= width:
            raise ValueError(
                f"{name}: got Matryoshka dim {dim}, expected 1 to {width}; set model.matryoshka_dims to match the model"
            )
        whole = dim == width
        prefixes = embeddings if whole else tuple(normalised(table[:, :dim]) for table in embeddings)
        main = _main_metric_of(metrics)
        metrics[f"{main}@{dim}"] = metrics[main] if whole else _score(data, *prefixes)[main]
    return metrics


def _encode_unique(encode: Encode, texts: Sequence[str], role: TextRole) -> np.ndarray:
    """Rows for all texts, each different text encoded once."""
    position = {text: i for i, text in enumerate(dict.fromkeys(texts))}
    return encode(list(position), role)[[position[text] for text in texts]]


def _encode_classification(encode: Encode, data: ClassificationData) -> tuple[np.ndarray, np.ndarray]:
    """(train, test) embeddings; training texts that no experiment draws stay zero."""
    drawn = sorted({row for rows in training_samples(data.train_labels) for row in rows})
    both = _encode_unique(encode, [*(data.train_texts[row] for row in drawn), *data.test_texts], "query")
    train_ND = np.zeros((len(data.train_texts), both.shape[1]), dtype=both.dtype)
    train_ND[drawn] = both[: len(drawn)]
    return train_ND, both[len(drawn) :]


def _score(data: EvaluationData, first_ND: np.ndarray, second_ND: np.ndarray) -> dict[str, float]:
    if isinstance(data, RetrievalData):
        return retrieval_scores(list(data.queries), list(data.documents), first_ND, second_ND, data.qrels)
    if isinstance(data, STSData):
        return sts_scores(first_ND, second_ND, data.scores)
    return classification_scores(first_ND, data.train_labels, second_ND, data.test_labels)


def _main_metric_of(metrics: Iterable[str]) -> str:
    return next(name for name in MAIN_METRIC.values() if name in metrics)


def selection_score(results: Results, main_metric: str | None = None) -> float:
    """What picks the best checkpoint: `DATASET/METRIC` of the results, or the mean of all main metrics.

    Raises:
        ValueError: there is no such data set or metric, or there are no results.
    """
    if main_metric is None:
        if not results:
            raise ValueError("evaluation.data: got no data sets, expected at least one to pick the best checkpoint by")
        return float(np.mean([metrics[_main_metric_of(metrics)] for metrics in results.values()]))
    dataset, _, metric = main_metric.rpartition("/")
    if metric not in results.get(dataset, {}):
        known = ", ".join(f"{name}/{key}" for name, metrics in results.items() for key in metrics)
        raise ValueError(f"evaluation.main_metric: got {main_metric}, expected one of {known}")
    return results[dataset][metric]


def results_table(
    before: Mapping[str, Mapping[str, float]],
    after: Mapping[str, Mapping[str, float]] | None = None,
    *,
    all_metrics: bool = False,
    title: str | None = None,
) -> Table:
    """Scores as a table: data set, metric, before, after, change; with `before` alone: data set, metric, score.

    Shows the main metric of each data set and its Matryoshka prefixes, or all metrics.
    """
    table = Table(title=title)
    table.add_column("data set")
    table.add_column("metric")
    for heading in ("score",) if after is None else ("before", "after", "change"):
        table.add_column(heading, justify="right")
    for name, metrics in before.items():
        main = _main_metric_of(metrics)
        shown = [key for key in metrics if all_metrics or key.partition("@")[0] == main]
        for i, key in enumerate(shown):
            cells = [f"{metrics[key]:.4f}"]
            if after is not None:
                value = after[name][key]
                cells += [f"{value:.4f}", f"{value - metrics[key]:+.4f}"]
            table.add_row(name if i == 0 else "", key, *cells, end_section=i == len(shown) - 1)
    return table
