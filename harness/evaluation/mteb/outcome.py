"""What an evaluation on mteb's tasks gives: plain values, which every rank can hold without importing mteb."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

PREFIX = "mteb/"  # of a task's name in evaluation.json, so that it is no data set of the user


@dataclass(frozen=True, slots=True)
class TaskScores:
    """One task. score: the mean of the main metric over splits and subsets, null if mteb gives none."""

    name: str
    type: str
    metric: str
    score: float | None
    by_split: Mapping[str, Sequence[Mapping[str, Any]]]  # as in mteb's file: split → [{"hf_subset", METRIC: value}]
    prompts: Mapping[str, str]

    def value(self, metric: str, splits: Sequence[str], subset: str | None = None) -> float | None:
        """A metric on the first of these splits that was scored; null if it is not known."""
        for split in splits:
            for row in self.by_split.get(split, ()):
                if subset is None or row.get("hf_subset") == subset:
                    return number(row.get(metric))
        return None


@dataclass(frozen=True, slots=True)
class Outcome:
    """The tasks that have scores, in the order of the request; and of the others a line each."""

    tasks: Sequence[TaskScores]
    problems: Mapping[str, str] = field(default_factory=dict)

    @property
    def num_tasks(self) -> int:
        """Scored or not."""
        return len(self.tasks) + len(self.problems)

    def results(self) -> dict[str, dict[str, float]]:
        """`{mteb/TASK: {main metric: value}}`, NaN where it is not known: as other data sets are recorded."""
        return {
            PREFIX + task.name: {task.metric: float("nan") if task.score is None else task.score} for task in self.tasks
        }


@dataclass(frozen=True, slots=True)
class Average:
    """A mean over tasks; null unless all of them have scores. scored: how many have, of `total`."""

    name: str
    score: float | None
    scored: int
    total: int


def average(name: str, scores: Iterable[float | None], total: int | None = None) -> Average:
    """The mean of scores of which some may be null. total: with those that are not even listed."""
    listed = list(scores)
    known = [score for score in listed if score is not None]
    total = len(listed) if total is None else total
    return Average(name, sum(known) / total if len(known) == total > 0 else None, len(known), total)


def number(value: Any) -> float | None:
    """A finite number, or None."""
    return float(value) if isinstance(value, int | float) and value == value and abs(value) != float("inf") else None
