"""From an encode function and evaluation data to scores, and from scores to a table."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.table import Table

from harness import rank0
from harness.data.source.locate import dataset_name
from harness.evaluation.datasets import EvaluationData, EvaluationKind, data_files, load_evaluation_data
from harness.evaluation.kinds import Encode, embeddings_of, num_rows, score
from harness.evaluation.metrics import METRICS, normalised

Results = dict[str, dict[str, float]]
MAIN_METRIC: dict[EvaluationKind, str] = {kind: metrics[0] for kind, metrics in METRICS.items()}


@dataclass(frozen=True, slots=True)
class LoadedData:
    """Evaluation data in memory, by name; `facts` says of each where it came from.

    facts: `name`, `path`, `kind`, `rows` (judged queries, pairs, texts or test rows), `hash` (SHA-256 over its files).
    """

    data: dict[str, EvaluationData]
    facts: list[dict[str, Any]]


def load(paths: Sequence[str]) -> LoadedData:
    """Read and check all data sets, and take their facts.

    Raises:
        ValueError: a data set cannot be read, or is given twice.
    """
    data: dict[str, EvaluationData] = {}
    facts = []
    for name, path in zip(dataset_name(paths), paths, strict=True):
        data[name] = load_evaluation_data(path)
        kind, files = data_files(path)
        facts.append({"name": name, "path": path, "kind": kind, "rows": num_rows(data[name]), "hash": _hash(files)})
    return LoadedData(data, facts)


def _hash(files: Sequence[Path]) -> str:
    """SHA-256 over the contents of the files: of the file itself for one, of the files' digests for several."""
    digests = []
    for file in files:
        with file.open("rb") as stream:
            digests.append(hashlib.file_digest(stream, "sha256"))
    if len(digests) == 1:
        return digests[0].hexdigest()
    return hashlib.sha256(b"".join(digest.digest() for digest in digests)).hexdigest()


def check_main_metric(data: LoadedData, main_metric: str | None, matryoshka_dims: Sequence[int] | None = None) -> None:
    """Whether `evaluate` will give `DATASET/METRIC`; to be asked before training. None is always right.

    matryoshka_dims: the prefixes that will be scored; None: not known here, any METRIC@DIM passes.

    Raises:
        ValueError: there is no such data set, or its kind has no such metric.
    """
    if main_metric is None:
        return
    known = {fact["name"]: list(METRICS[fact["kind"]]) for fact in data.facts}
    for metrics in known.values():
        metrics += [f"{metrics[0]}@{dim}" for dim in matryoshka_dims or ()]
    dataset, _, metric = main_metric.rpartition("/")
    if metric in known.get(dataset, ()):
        return
    main, _, dim = metric.partition("@")
    if matryoshka_dims is None and main in known.get(dataset, ())[:1] and dim.isdecimal() and int(dim) > 0:
        return
    raise _no_such_metric(main_metric, known)


def _no_such_metric(main_metric: str, known: Mapping[str, Iterable[str]]) -> ValueError:
    names = ", ".join(f"{name}/{metric}" for name, metrics in known.items() for metric in metrics)
    return ValueError(f"evaluation.main_metric: got {main_metric}, expected one of {names or 'no data sets'}")


def evaluate(encode: Encode, data: LoadedData | Sequence[str], matryoshka_dims: Sequence[int] | None = None) -> Results:
    """Metrics of every data set (loaded, or paths): `{data set: {metric: value}}`, with mteb's metric names.

    `encode(texts, role)` gives float32 [n, D]; every rank calls it with the same texts and gets the same rows. Texts
    that are neither queries nor documents take the role `sentence`. Rank 0 computes the metrics; all ranks return them.
    With `matryoshka_dims` the main metric is given for each prefix of the embedding too, as `METRIC@DIM`
    (`ndcg_at_10@128`); prefixes are divided by their length.

    Raises:
        ValueError: a data set cannot be read, an embedding is not finite, or a Matryoshka dim is larger than D.
    """
    loaded = data if isinstance(data, LoadedData) else load(data)
    return {name: _evaluate_one(encode, name, one, matryoshka_dims or ()) for name, one in loaded.data.items()}


def _evaluate_one(encode: Encode, name: str, data: EvaluationData, matryoshka_dims: Sequence[int]) -> dict[str, float]:
    embeddings = embeddings_of(encode, data)
    return rank0.by_main(lambda: _metrics(name, data, embeddings, matryoshka_dims))


def _metrics(
    name: str, data: EvaluationData, embeddings: tuple[np.ndarray, ...], matryoshka_dims: Sequence[int]
) -> dict[str, float]:
    for table in embeddings:
        if not np.isfinite(table).all():
            raise ValueError(
                f"{name}: got embeddings with inf or nan, expected finite numbers; lower training.learning_rate "
                "or set training.precision: fp32"
            )
    metrics = score(data, *embeddings)
    width = embeddings[0].shape[1]
    for dim in matryoshka_dims:
        if not 1 <= dim <= width:
            raise ValueError(
                f"{name}: got Matryoshka dim {dim}, expected 1 to {width}; set model.matryoshka_dims to match the model"
            )
        whole = dim == width
        prefixes = embeddings if whole else tuple(normalised(table[:, :dim]) for table in embeddings)
        main = _main_metric_of(metrics)
        metrics[f"{main}@{dim}"] = metrics[main] if whole else score(data, *prefixes)[main]
    return metrics


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
        raise _no_such_metric(main_metric, results)
    return results[dataset][metric]


def results_table(
    before: Mapping[str, Mapping[str, float]],
    after: Mapping[str, Mapping[str, float]] | None = None,
    *,
    all_metrics: bool = False,
    title: str | None = None,
) -> Table:
    """Scores as a table: data set, metric, before, after, change; with `before` alone: data set, metric, score.

    Shows the main metric of each data set and its Matryoshka prefixes, or all metrics. What only one side has leaves
    the other's cells empty.
    """
    table = Table(title=title)
    table.add_column("data set")
    table.add_column("metric")
    for heading in ("score",) if after is None else ("before", "after", "change"):
        table.add_column(heading, justify="right")
    for name in dict.fromkeys([*(after or {}), *before]):
        old, new = before.get(name, {}), (after or {}).get(name, {})
        metrics = list(dict.fromkeys([*new, *old]))
        main = _main_metric_of(metrics)
        shown = [key for key in metrics if all_metrics or key.partition("@")[0] == main]
        for i, key in enumerate(shown):
            cells = _cells(old.get(key), new.get(key))[: 1 if after is None else 3]
            table.add_row(name if i == 0 else "", key, *cells, end_section=i == len(shown) - 1)
    return table


def _cells(before: float | None, after: float | None) -> list[str]:
    change = "" if before is None or after is None else f"{after - before:+.4f}"
    return ["" if before is None else f"{before:.4f}", "" if after is None else f"{after:.4f}", change]
