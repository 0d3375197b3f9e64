"""Reads what a run folder has recorded into arrays, for the figures and report.html."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from harness.report.metrics_file import Row, read_entries, read_rows
from harness.report.run_file import RunFile

# Runs that differ only in these settings are repetitions of one experiment. They are drawn as mean and spread.
_REPETITION = ("name", "output", "training.seed", "data.cache")


class RuleThresholds(Protocol):
    """The thresholds that a replacement rule compares a negative's similarity with: label in the figure → value."""

    def fixed_thresholds(self) -> Mapping[str, float]:
        """The thresholds that are constant during the run."""
        ...

    def moving_thresholds(self, start_P: np.ndarray) -> Mapping[str, np.ndarray]:
        """The thresholds that depend on S0, the first similarity of a negative. start_P: mean S0; values: [P]."""
        ...


@dataclass(frozen=True)
class RunHistory:
    """Everything that a run has recorded. A value that a row lacks or holds as null is NaN."""

    path: Path
    name: str
    settings: Mapping[str, Any]  # the recipe, dotted key → value
    rule: RuleThresholds | None  # None: the run does not replace negatives
    facts: Mapping[str, Any]  # run.json
    step_P: np.ndarray  # int64, the recorded steps
    columns: Mapping[str, np.ndarray]  # [P] float64 each
    evaluations: Sequence[Row]

    def column(self, name: str) -> np.ndarray:
        """The values of a column, [P] float64; all NaN if the run has not recorded it."""
        return self.columns.get(name, np.full(len(self.step_P), np.nan))

    def scores(self, step: int) -> dict[str, dict[str, float | None]]:
        """Data set → metric → value, of the evaluation at a step."""
        return {entry["dataset"]: entry["metrics"] for entry in self.evaluations if entry["step"] == step}

    @property
    def last_evaluation(self) -> int:
        """The last step with an evaluation; 0 if only the starting model was evaluated, or nothing."""
        return max((entry["step"] for entry in self.evaluations), default=0)

    @property
    def step_of_scores(self) -> int:
        """The step whose scores are the run's result: that of its model, or of the last evaluation; 0 if none."""
        best = self.facts.get("best")
        return int(best["step"]) if best else self.last_evaluation


@dataclass(frozen=True)
class Group:
    """The repetitions of one experiment: runs whose recipes differ only in the seed. They are drawn as one line."""

    label: str
    runs: Sequence[RunHistory]

    @property
    def rule(self) -> RuleThresholds | None:
        return self.runs[0].rule


def read_history(path: Path, name: str, settings: Mapping[str, Any], rule: RuleThresholds | None) -> RunHistory:
    """Read the folder of a finished or unfinished run. Changes nothing in it.

    Raises:
        ValueError: `PATH: ...` or `PATH:LINE: ...` for a file of the run that cannot be read.
    """
    rows, _ = read_rows(path / "metrics.jsonl")
    evaluation = path / "evaluation.json"
    names = dict.fromkeys(key for row in rows for key in row)
    return RunHistory(
        path=path,
        name=name,
        settings=settings,
        rule=rule,
        facts=RunFile(path / "run.json").read() or {},
        step_P=np.array([row["step"] for row in rows], dtype=np.int64),
        columns={key: np.array([_number(row.get(key)) for row in rows]) for key in names if key != "step"},
        evaluations=read_entries(evaluation) if evaluation.exists() else [],
    )


def group(runs: Sequence[RunHistory]) -> list[Group]:
    """Group the repetitions of each experiment, in the order of `runs`. Every group gets a unique label."""
    runs_of_experiment: dict[str, list[RunHistory]] = {}
    for run in runs:
        key = repr(sorted((k, v) for k, v in run.settings.items() if k not in _REPETITION))
        runs_of_experiment.setdefault(key, []).append(run)
    stems = [_stem(members) for members in runs_of_experiment.values()]
    groups: list[Group] = []
    for stem, members in zip(stems, runs_of_experiment.values(), strict=True):
        label = stem if stems.count(stem) == 1 else members[0].path.absolute().name
        label = label if [group.label for group in groups].count(label) == 0 else f"{label} ({len(groups) + 1})"
        groups.append(Group(f"{label}, {len(members)} seeds" if len(members) > 1 else label, members))
    return groups


def main_metrics(groups: Sequence[Group]) -> dict[str, str]:
    """Data set → its main metric, which is the first one in evaluation.json."""
    entries = [entry for group in groups for run in group.runs for entry in run.evaluations]
    return {entry["dataset"]: next(iter(entry["metrics"])) for entry in entries if entry["metrics"]}


def different_settings(groups: Sequence[Group]) -> dict[str, list[Any]]:
    """Dotted recipe key → its value in each group, for keys whose values differ. None: the recipe lacks the key."""
    recipes = [group.runs[0].settings for group in groups]
    keys = dict.fromkeys(key for recipe in recipes for key in recipe if key not in _REPETITION)
    values = {key: [recipe.get(key) for recipe in recipes] for key in keys}
    return {key: row for key, row in values.items() if any(value != row[0] for value in row)}


def _stem(runs: Sequence[RunHistory]) -> str:
    """The common start of the runs' names, without an ending such as `-seed`."""
    if len(runs) == 1:
        return runs[0].name
    first, last = min(run.name for run in runs), max(run.name for run in runs)
    common = next((first[:i] for i in range(len(first), 0, -1) if last.startswith(first[:i])), "")
    return re.sub(r"[\W_]*(seed)?[\W_]*$", "", common) or runs[0].name


def _number(value: Any) -> float:
    return float(value) if isinstance(value, int | float) else float("nan")
