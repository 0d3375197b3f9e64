"""The tables of report.html, as text."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from harness.report.history import Group, RunHistory, main_metrics

_NONE = "–"


@dataclass(frozen=True, slots=True)
class Overview:
    """Facts about the runs: `common` holds the facts that are equal for all runs, `rows` the others, a row per run."""

    common: Mapping[str, str]
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]


@dataclass(frozen=True, slots=True)
class Finding:
    """A table of a comparison: its first column names the rows, the others are numbers as text."""

    title: str
    note: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]


@dataclass(frozen=True, slots=True)
class ResultRow:
    """A metric of a data set in one group, before and after training, as text."""

    dataset: str
    metric: str
    group: str
    before: str
    after: str
    change: str


def overview(runs: Sequence[RunHistory]) -> Overview:
    """Names, steps, speed and other facts of the runs. Facts that no run has recorded are left out."""
    facts = [_facts(run) for run in runs]
    equal = {key: value for key, value in facts[0].items() if all(other[key] == value for other in facts)}
    columns = [key for key in facts[0] if key not in equal]
    common = {key: value for key, value in equal.items() if value != _NONE}
    return Overview(common, columns, [[run[key] for key in columns] for run in facts])


def results(groups: Sequence[Group], *, all_metrics: bool) -> list[ResultRow]:
    """The main metric of each data set, or every metric and its Matryoshka prefixes, before and after training.

    For several seeds: mean ± standard deviation. `after`: of the step of each run's model, which is the last unless
    `evaluation.main_metric` has chosen another.
    """
    rows = []
    for dataset, main in main_metrics(groups).items():
        scores_of_runs = [run.scores(run.step_of_scores).get(dataset, {}) for group in groups for run in group.runs]
        scores_of_runs += [run.scores(0).get(dataset, {}) for group in groups for run in group.runs]
        metrics = dict.fromkeys(key for scores in scores_of_runs for key in scores if all_metrics or key == main)
        for key in metrics:
            rows += [ResultRow(dataset, key, group.label, *_result(group, dataset, key)) for group in groups]
    return rows


def _result(group: Group, dataset: str, metric: str) -> tuple[str, str, str]:
    before_R = np.array([_score(run, 0, dataset, metric) for run in group.runs])
    after_R = np.array([_score(run, run.step_of_scores or -1, dataset, metric) for run in group.runs])
    return _mean(before_R, ".4f"), _mean(after_R, ".4f"), _mean(after_R - before_R, "+.4f")


def _score(run: RunHistory, step: int, dataset: str, metric: str) -> float:
    value = run.scores(step).get(dataset, {}).get(metric)
    return float("nan") if value is None else value


def _mean(value_R: np.ndarray, digits: str) -> str:
    value_R = value_R[np.isfinite(value_R)]
    if not len(value_R):
        return _NONE
    spread = f" ± {value_R.std(ddof=1):.4f}" if len(value_R) > 1 and value_R.any() else ""
    return f"{value_R.mean():{digits}}{spread}"


def _facts(run: RunHistory) -> dict[str, str]:
    facts, num_steps = run.facts, int(run.step_P[-1]) if len(run.step_P) else 0
    hardware: Mapping[str, Any] = facts.get("hardware") or {}
    versions: Mapping[str, Any] = facts.get("versions") or {}
    gpus = hardware.get("gpus") or []
    return {
        "run": run.name,
        "seed": _text(facts.get("seed")),
        "steps": f"{num_steps:,} of {facts['steps']:,}" if "steps" in facts else f"{num_steps:,}",
        "state": "finished" if facts.get("finished") else "unfinished",
        "model of step": _text((facts.get("best") or {}).get("step")),
        "resumed after step": _text(facts.get("resumed_from") or None),
        "ranks": _text(facts.get("world_size")),
        "hardware": _text(", ".join(dict.fromkeys(gpus)) or hardware.get("cpu")),
        "started": _minute(facts.get("started")),
        "ended": _minute(facts.get("ended")),
        "texts per second": _rate(run, "num_texts"),
        "tokens per second": _rate(run, "num_tokens"),
        "GiB at most, each rank": ", ".join(f"{n / 2**30:.2f}" for n in facts.get("peak_memory_bytes") or []) or _NONE,
        "MB of embeddings from other hosts, a step": _from_other_hosts(run),
        "negatives replaced": _total(run, "negatives_replaced"),
        "of these: too hard, likely positives": _total(run, "negatives_too_hard"),
        "of these: chosen by score": _total(run, "negatives_by_score"),
        "to be replaced, without a successor": _total(run, "negatives_exhausted"),
        "mining.floor, found by auto": _measured(facts, "floor"),
        "version": _text(versions.get("harness")),
        "commit": re.sub(r"^(\w{10})\w+", r"\1", _text(versions.get("commit"))),
        "torch": _text(versions.get("torch")),
        "deepspeed": _text(versions.get("deepspeed")),
        "folder": str(run.path),
    }


def _rate(run: RunHistory, column: str) -> str:
    seconds, count = run.column("seconds"), run.column(column)
    is_recorded = np.isfinite(seconds) & np.isfinite(count)
    total_count, total_seconds = count[is_recorded].sum(), seconds[is_recorded].sum()
    return f"{total_count / total_seconds:,.1f}" if total_seconds > 0 else _NONE


def _total(run: RunHistory, column: str) -> str:
    values = run.column(column)
    return f"{np.nansum(values):,.0f}" if np.isfinite(values).any() and run.rule is not None else _NONE


def _measured(facts: Mapping[str, Any], setting: str) -> str:
    """The thresholds that the rule has taken from the run's similarities, by task."""
    of_tasks = {task: numbers[setting] for task, numbers in (facts.get("mining") or {}).items() if setting in numbers}
    return ", ".join(f"{task} {value:.4g}" for task, value in of_tasks.items()) or _NONE


def _from_other_hosts(run: RunHistory) -> str:
    """What rank 0 receives in the mean step; nothing to show for one host."""
    values = run.column("embedding_bytes_from_other_hosts")
    return f"{np.nanmean(values) / 1e6:,.2f}" if np.nansum(values) > 0 else _NONE


def _minute(timestamp: str | None) -> str:
    return _NONE if timestamp is None else f"{timestamp[:16].replace('T', ' ')} UTC"


def _text(value: Any) -> str:
    return _NONE if value is None or value == "" else str(value)
