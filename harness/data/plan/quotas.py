"""Turns the tasks' shares of a step into quotas, which are whole numbers of examples.

The tasks with `share: auto` divide among themselves the part of `data.batch` that quotas and other shares do not use. A
task's part is proportional to

    (rows of its data) ** (1 / size_temperature)

With size_temperature 1 the parts are proportional to the sizes of the data. Above 1, small tasks get more; Arivazhagan
et al. 2019 (arXiv 1907.05019, section 4.1) use 5. The exponent is called alpha by XLM-R (arXiv 1911.02116) and mT5
(arXiv 2010.11934); both use 0.3.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from math import floor

from harness.data.data_config import DataConfig
from harness.data.plan.task import Task

# An example that stands twice in a step teaches nothing more, and the pairs of equal texts, which are masked, grow with
# the square of how often it stands there.
MOST_REPEATS = 16


def with_quotas(tasks: Sequence[Task], data: DataConfig) -> tuple[Task, ...]:
    """Copies of the tasks in which every share is replaced by a quota of at least 1.

    If any task has a share, the quotas of all tasks add up to `data.batch`.

    Raises:
        ValueError: a step would hold the examples of a task more than `MOST_REPEATS` times.
    """
    given = tuple(tasks) if data.batch is None else _without_shares(tasks, data)
    for task in given:
        if task.quota > MOST_REPEATS * task.data.num_rows:
            raise ValueError(
                f"tasks.{task.config.name}: got {task.quota:,} examples a step of {task.data.num_rows:,} rows of data, "
                f"expected at most {MOST_REPEATS} times as many; lower quota or data.batch"
            )
    return given


def _without_shares(tasks: Sequence[Task], data: DataConfig) -> tuple[Task, ...]:
    assert data.batch is not None
    shared = [task for task in tasks if task.config.share is not None]
    total = data.batch - sum(task.config.quota or 0 for task in tasks)
    quotas = iter(apportion(_ideal_examples(tasks, shared, data), total))
    return tuple(
        task
        if task.config.share is None
        else replace(task, config=task.config.model_copy(update={"quota": next(quotas), "share": None}))
        for task in tasks
    )


def _ideal_examples(tasks: Sequence[Task], shared: Sequence[Task], data: DataConfig) -> list[float]:
    """The number of examples of each of the `shared` tasks before rounding."""
    assert data.batch is not None
    left = float(data.batch)
    for task in tasks:
        left -= task.config.quota or (data.batch * task.config.share if isinstance(task.config.share, float) else 0)
    weights = {
        task.config.name: task.data.num_rows ** (1 / data.size_temperature)
        for task in shared
        if task.config.share == "auto"
    }
    return [
        data.batch * task.config.share
        if isinstance(task.config.share, float)
        else left * weights[task.config.name] / sum(weights.values())
        for task in shared
    ]


def apportion(ideal: Sequence[float], total: int) -> list[int]:
    """Round `ideal` to whole numbers of at least 1 that add up to `total`: the method of largest remainders.

    ideal: numbers that add up to `total`; `total` is at least their count. If remainders are equal, the first number is
    rounded up.
    """
    counts = [max(1, floor(number)) for number in ideal]
    while sum(counts) < total:
        counts[max(range(len(counts)), key=lambda i: ideal[i] - counts[i])] += 1
    while sum(counts) > total:  # too many numbers below 1 were raised to 1
        counts[max((i for i, count in enumerate(counts) if count > 1), key=lambda i: counts[i] - ideal[i])] -= 1
    return counts
