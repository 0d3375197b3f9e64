"""What is printed and written of an evaluation on mteb's tasks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rich.table import Table

from harness.evaluation.mteb.outcome import Average, Outcome, average
from harness.evaluation.mteb.published import SOURCE, Compared

_NONE = "—"


def averages(outcome: Outcome, types: Sequence[str]) -> list[Average]:
    """The mean over the tasks of each type, over all tasks, and over the types; null where a task has no score.

    types: of all tasks that were asked for, also of those without scores.
    """
    scored: dict[str, list[float | None]] = {kind: [] for kind in sorted(set(types))}
    for task in outcome.tasks:
        scored[task.type].append(task.score)
    rows = [average(kind, scores, types.count(kind)) for kind, scores in scored.items()]
    by_type = average("mean over types", [row.score for row in rows])
    all_scores = [task.score for task in outcome.tasks]
    return [*rows, average("mean over tasks", all_scores, len(types)), by_type]


def scores_table(outcome: Outcome, names: Sequence[str]) -> Table:
    """Task, type, main metric, score of the tasks that were asked for; — without a score."""
    table = Table()
    for heading in ("task", "type", "metric"):
        table.add_column(heading)
    table.add_column("score", justify="right")
    scored = {task.name: task for task in outcome.tasks}
    for name in names:
        task = scored.get(name)
        cells = ("", "", _NONE) if task is None else (task.type, task.metric, _cell(task.score, ".4f"))
        table.add_row(name, *cells)
    return table


def averages_table(rows: Sequence[Average]) -> Table:
    """Averages; — where not all of their tasks have a score."""
    table = Table()
    table.add_column("average")
    table.add_column("scored", justify="right")
    table.add_column("score", justify="right")
    for row in rows:
        table.add_row(row.name, f"{row.scored} of {row.total}", _cell(row.score, ".4f"))
    return table


def compared_table(rows: Sequence[Compared]) -> Table:
    """Our averages beside Conan-embedding-v1's published ones, in percent."""
    table = Table(title=f"C-MTEB beside Conan-embedding-v1 as published ({SOURCE}), percent")
    table.add_column("category")
    for heading in ("scored", "ours", "published", "difference"):
        table.add_column(heading, justify="right")
    for row in rows:
        ours = row.ours
        cells = (_cell(ours.score, ".2f"), f"{row.published:.2f}", _cell(row.difference, "+.2f"))
        table.add_row(ours.name, f"{ours.scored} of {ours.total}", *cells)
    return table


def as_json(outcome: Outcome, rows: Sequence[Average], compared: Sequence[Compared]) -> dict[str, Any]:
    """For `--output`: scores, averages and comparison; unknown is null."""
    facts: dict[str, Any] = {
        "tasks": {
            task.name: {"type": task.type, "metric": task.metric, "score": task.score, "prompts": dict(task.prompts)}
            for task in outcome.tasks
        },
        "without_scores": dict(outcome.problems),
        "averages": {row.name: {"score": row.score, "scored": row.scored, "of": row.total} for row in rows},
    }
    if compared:
        facts["beside_conan_v1"] = {
            row.ours.name: {
                "ours": row.ours.score, "published": row.published, "scored": row.ours.scored, "of": row.ours.total,
            }
            for row in compared
        }  # fmt: skip
    return facts


def _cell(value: float | None, digits: str) -> str:
    return _NONE if value is None else f"{value:{digits}}"
