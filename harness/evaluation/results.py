"""Uses scores: selects the best checkpoint by them, and shows them as a table."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from rich.table import Table

from harness.evaluation.kinds.table import KINDS, main_metric_of
from harness.evaluation.runner import LoadedData, Results


def check_main_metric(data: LoadedData, main_metric: str | None, matryoshka_dims: Sequence[int] | None = None) -> None:
    """Refuse, before training, a main metric that `evaluate` will not compute. None is always valid.

    main_metric: DATASET/METRIC. matryoshka_dims: the prefixes that will be scored; None: any METRIC@DIM is valid.

    Raises:
        ValueError: there is no such data set, or its kind has no such metric.
    """
    if main_metric is None:
        return
    available = {fact["name"]: list(KINDS[fact["kind"]].metrics) for fact in data.facts}
    for metrics in available.values():
        metrics += [f"{metrics[0]}@{dim}" for dim in matryoshka_dims or ()]
    dataset, _, metric = main_metric.rpartition("/")
    if metric in available.get(dataset, ()):
        return
    main, _, dim = metric.partition("@")
    if matryoshka_dims is None and main in available.get(dataset, ())[:1] and dim.isdecimal() and int(dim) > 0:
        return
    raise _no_such_metric(main_metric, available)


def _no_such_metric(main_metric: str, available: Mapping[str, Iterable[str]]) -> ValueError:
    names = ", ".join(f"{name}/{metric}" for name, metrics in available.items() for metric in metrics)
    return ValueError(f"evaluation.main_metric: got {main_metric}, expected one of {names or 'no data sets'}")


def selection_score(results: Results, main_metric: str | None = None) -> float:
    """The score that selects the best checkpoint: `DATASET/METRIC` of the results, or the mean of all main metrics.

    Raises:
        ValueError: there is no such data set or metric, or there are no results.
    """
    if main_metric is None:
        if not results:
            raise ValueError("evaluation.data: got no data sets, expected at least one to pick the best checkpoint by")
        return float(np.mean([metrics[main_metric_of(metrics)] for metrics in results.values()]))
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
    """Scores as a table: data set, metric, before, after, change; without `after`: data set, metric, score.

    The table has the main metric of each data set and its Matryoshka prefixes, or all metrics. A cell is empty if
    `before` or `after` lacks the metric.
    """
    table = Table(title=title)
    table.add_column("data set")
    table.add_column("metric")
    for heading in ("score",) if after is None else ("before", "after", "change"):
        table.add_column(heading, justify="right")
    for name in dict.fromkeys([*(after or {}), *before]):
        old, new = before.get(name, {}), (after or {}).get(name, {})
        metrics = list(dict.fromkeys([*new, *old]))
        main = main_metric_of(metrics)
        table_metrics = [key for key in metrics if all_metrics or key.partition("@")[0] == main]
        for i, key in enumerate(table_metrics):
            cells = _cells(old.get(key), new.get(key))[: 1 if after is None else 3]
            table.add_row(name if i == 0 else "", key, *cells, end_section=i == len(table_metrics) - 1)
    return table


def _cells(before: float | None, after: float | None) -> list[str]:
    change = "" if before is None or after is None else f"{after - before:+.4f}"
    return ["" if before is None else f"{before:.4f}", "" if after is None else f"{after:.4f}", change]
