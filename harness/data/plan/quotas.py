"""Stage 4 helper: from shares of a step to whole numbers of examples.

A task with `share: auto` gets what quotas and other shares leave of `data.batch`, in proportion to

    (rows of its data) ** (1 / size_temperature)

1: in proportion to the data. Above 1: small tasks get more; 5 as in Arivazhagan et al. 2019 (arXiv 1907.05019, section
4.1); the exponent itself is the alpha of XLM-R (arXiv 1911.02116) and mT5 (arXiv 2010.11934), both 0.3.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from math import floor

from harness.data.config import DataConfig
from harness.data.plan.task import Task


def with_quotas(tasks: Sequence[Task], data: DataConfig) -> tuple[Task, ...]:
    """The tasks, every share a quota by now, at least 1; with shares the quotas add up to `data.batch`."""
    if data.batch is None:
        return tuple(tasks)
    left = float(data.batch)
    for task in tasks:
        left -= task.config.quota or (data.batch * task.config.share if isinstance(task.config.share, float) else 0)
    power = {
        task.config.name: task.data.num_rows ** (1 / data.size_temperature)
        for task in tasks
        if task.config.share == "auto"
    }
    shared = [task for task in tasks if task.config.share is not None]
    ideal = [
        data.batch * task.config.share
        if isinstance(task.config.share, float)
        else left * power[task.config.name] / sum(power.values())
        for task in shared
    ]
    total = data.batch - sum(task.config.quota or 0 for task in tasks)
    quota = dict(zip((task.config.name for task in shared), apportion(ideal, total), strict=True))
    return tuple(
        replace(task, config=task.config.model_copy(update={"quota": quota[task.config.name], "share": None}))
        if task.config.name in quota
        else task
        for task in tasks
    )


def apportion(ideal: Sequence[float], total: int) -> list[int]:
    """Whole numbers of at least 1 near `ideal`, with the given sum: the method of largest remainders.

    ideal: adds up to `total`, which is at least its length. Of equal remainders the first is taken.
    """
    counts = [max(1, floor(number)) for number in ideal]
    while sum(counts) < total:
        counts[max(range(len(counts)), key=lambda i: ideal[i] - counts[i])] += 1
    while sum(counts) > total:  # those raised to 1 take it from others
        counts[max((i for i, count in enumerate(counts) if count > 1), key=lambda i: counts[i] - ideal[i])] -= 1
    return counts
