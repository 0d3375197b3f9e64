"""Uses scores: selects the best checkpoint by them, and shows them as a table."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from rich.table import Table

from harness.evaluation.kinds.table import KINDS, main_metric_of
from harness.evaluation.mteb.outcome import PREFIX
from harness.evaluation.runner import LoadedData, Results
from harness.export.formats.sizes import COLUMNS, is_quantised, size_rows


def check_main_metric(
    data: LoadedData,
    main_metric: str | None,
    matryoshka_dims: Sequence[int] | None = None,
    of_mteb: Mapping[str, str] | None = None,
) -> None:
    """Refuse, before training, a main metric that `evaluate` will not compute. None is always valid.

    main_metric: DATASET/METRIC. matryoshka_dims: the prefixes that will be scored; None: any METRIC@DIM is valid.
    of_mteb: mteb/TASK → its only metric.

    Raises:
        ValueError: there is no such data set, or its kind has no such metric.
    """
    if main_metric is None:
        return
    available = {fact["name"]: list(KINDS[fact["kind"]].metrics) for fact in data.facts}
    for metrics in available.values():
        metrics += [f"{metrics[0]}@{dim}" for dim in matryoshka_dims or ()]
    available |= {name: [metric] for name, metric in (of_mteb or {}).items()}
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

    If a score in it is unknown (NaN, or None as read from a file), it is -inf: such a checkpoint is the best of none.

    Raises:
        ValueError: there is no such data set or metric, or there are no results.
    """
    if main_metric is None:
        if not results:
            raise ValueError("evaluation.data: got no data sets, expected at least one to pick the best checkpoint by")
        return float(np.mean([_known(metrics[main_metric_of(metrics)], -np.inf) for metrics in results.values()]))
    dataset, _, metric = main_metric.rpartition("/")
    if metric not in results.get(dataset, {}):
        raise _no_such_metric(main_metric, results)
    return _known(results[dataset][metric], -np.inf)


def selecting(results: Results, *, has_data: bool) -> Results:
    """The scores whose mean selects the best checkpoint where no main metric does.

    Tasks of mteb, which have steps of their own, do so only if there is no evaluation data (has_data).
    """
    return {name: metrics for name, metrics in results.items() if name.startswith(PREFIX) != has_data}


def _known(score: float | None, otherwise: float) -> float:
    """The score, or `otherwise` if it is unknown."""
    return otherwise if score is None or math.isnan(score) else score


def json_values(results: Results) -> dict[str, dict[str, float | None]]:
    """The results as JSON holds them: a score that is not defined is None (null)."""
    return {
        name: {metric: None if math.isnan(value) else value for metric, value in metrics.items()}
        for name, metrics in results.items()
    }


def results_table(
    before: Mapping[str, Mapping[str, float]],
    after: Mapping[str, Mapping[str, float]] | None = None,
    *,
    all_metrics: bool = False,
    title: str | None = None,
) -> Table:
    """Scores as a table: data set, metric, before, after, change; without `after`: data set, metric, score.

    The table has the main metric of each data set and its Matryoshka prefixes, or all metrics. A cell is empty if
    `before` or `after` lacks the metric, and — if the metric is not defined (equal cosines have no correlation).
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
        table_metrics = [
            key for key in metrics if all_metrics or (key.partition("@")[0] == main and not is_quantised(key))
        ]
        for i, key in enumerate(table_metrics):
            cells = _cells(old, new, key)[: 1 if after is None else 3]
            table.add_row(name if i == 0 else "", key, *cells, end_section=i == len(table_metrics) - 1)
    return table


def sizes_table(results: Mapping[str, Mapping[str, float]]) -> Table | None:
    """Scores by dimension and precision of the stored vectors; None if no quantised ones were scored."""
    rows = size_rows(results)
    if not rows:
        return None
    table = Table(title="smaller vectors")
    for column in COLUMNS:
        table.add_column(column, justify="left" if column in ("data set", "metric", "precision") else "right")
    for row in rows:
        table.add_row(*row.cells())
    return table


def _cells(old: Mapping[str, float], new: Mapping[str, float], key: str) -> list[str]:
    before, after = (_known(scores.get(key), np.nan) for scores in (old, new))
    cells = [
        ("—" if math.isnan(value) else f"{value:.4f}") if key in scores else ""
        for scores, value in ((old, before), (new, after))
    ]
    return [*cells, "" if math.isnan(after - before) else f"{after - before:+.4f}"]
