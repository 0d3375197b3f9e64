"""What a run folder has recorded, as arrays: the input of the figures and of report.html."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from harness.report.metrics_file import Row, read_entries, read_rows
from harness.report.run_file import RunFile

# Runs that differ in these only are repetitions of one experiment: drawn as their mean and spread.
_REPETITION = ("name", "output", "training.seed", "data.cache")


class RuleThresholds(Protocol):
    """What a replacement rule compares the similarity of a negative with, by the words that the figure says of it."""

    def fixed_thresholds(self) -> Mapping[str, float]:
        """Those that stay the same through the run."""
        ...

    def moving_thresholds(self, start_P: np.ndarray) -> Mapping[str, np.ndarray]:
        """Those that depend on S0, the first similarity of a negative: [P] for each mean S0."""
        ...


@dataclass(frozen=True)
class RunHistory:
    """Everything that is recorded of one run. What a row lacks or holds as null is NaN."""

    path: Path
    name: str
    settings: Mapping[str, Any]  # the recipe, dotted key → value
    rule: RuleThresholds | None  # None: negatives are not replaced
    facts: Mapping[str, Any]  # run.json
    step_P: np.ndarray  # int64, the recorded steps
    columns: Mapping[str, np.ndarray]  # [P] float64 each
    evaluations: Sequence[Row]

    def column(self, name: str) -> np.ndarray:
        """[P] float64; NaN throughout if the run has not recorded it."""
        return self.columns.get(name, np.full(len(self.step_P), np.nan))

    def scores(self, step: int) -> dict[str, dict[str, float | None]]:
        """Data set → metric → value at a step."""
        return {entry["dataset"]: entry["metrics"] for entry in self.evaluations if entry["step"] == step}

    @property
    def last_evaluation(self) -> int:
        """The last step that was evaluated; 0 if only the starting model was, or nothing."""
        return max((entry["step"] for entry in self.evaluations), default=0)


@dataclass(frozen=True)
class Group:
    """The repetitions of one experiment: runs whose recipes differ in the seed only. Drawn as one line."""

    label: str
    runs: Sequence[RunHistory]

    @property
    def rule(self) -> RuleThresholds | None:
        return self.runs[0].rule


def read_history(path: Path, name: str, settings: Mapping[str, Any], rule: RuleThresholds | None) -> RunHistory:
    """Read a run folder, finished or not. Nothing in it is changed.

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
    """Put repetitions together, in the order given; every group gets a label of its own."""
    alike: dict[str, list[RunHistory]] = {}
    for run in runs:
        key = repr(sorted((k, v) for k, v in run.settings.items() if k not in _REPETITION))
        alike.setdefault(key, []).append(run)
    stems = [_stem(members) for members in alike.values()]
    groups: list[Group] = []
    for stem, members in zip(stems, alike.values(), strict=True):
        label = stem if stems.count(stem) == 1 else members[0].path.absolute().name
        label = label if [group.label for group in groups].count(label) == 0 else f"{label} ({len(groups) + 1})"
        groups.append(Group(f"{label}, {len(members)} seeds" if len(members) > 1 else label, members))
    return groups


def main_metrics(groups: Sequence[Group]) -> dict[str, str]:
    """Data set → the metric it is judged by, which stands first in evaluation.json."""
    entries = [entry for group in groups for run in group.runs for entry in run.evaluations]
    return {entry["dataset"]: next(iter(entry["metrics"])) for entry in entries if entry["metrics"]}


def different_settings(groups: Sequence[Group]) -> dict[str, list[Any]]:
    """The keys of the recipes, dotted, whose values are not the same in all groups; None where a recipe has none."""
    recipes = [group.runs[0].settings for group in groups]
    keys = dict.fromkeys(key for recipe in recipes for key in recipe if key not in _REPETITION)
    values = {key: [recipe.get(key) for recipe in recipes] for key in keys}
    return {key: row for key, row in values.items() if any(value != row[0] for value in row)}


def _stem(runs: Sequence[RunHistory]) -> str:
    """The runs' name, without what tells seeds apart at its end."""
    if len(runs) == 1:
        return runs[0].name
    first, last = min(run.name for run in runs), max(run.name for run in runs)
    common = next((first[:i] for i in range(len(first), 0, -1) if last.startswith(first[:i])), "")
    return re.sub(r"[\W_]*(seed)?[\W_]*$", "", common) or runs[0].name


def _number(value: Any) -> float:
    return float(value) if isinstance(value, int | float) else float("nan")
