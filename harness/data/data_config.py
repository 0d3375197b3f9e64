"""The recipe's `data` section, and whether the tasks' quotas and shares fit it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from pydantic import Field

from harness.data.config import MOST_EXAMPLES, TaskConfig
from harness.settings.section import Section


class DataConfig(Section):
    """How data files are read, and how the examples of a step are divided among tasks that have a share.

    cache: folder of the validated copies, and of the documents of evaluation data; default: the user's cache folder.
    batch: number of examples in a step, over all tasks and ranks; required if a task has a share.
    size_temperature: a higher value makes the `auto` shares depend less on the size of the data (see
        `harness/data/plan/quotas.py`).
    """

    # stop: the first row that cannot be read ends the command; skip: it is left out and counted in run.json.
    on_bad_row: Literal["stop", "skip"] = "stop"
    cache: str | None = None
    batch: int | None = Field(None, ge=1, le=MOST_EXAMPLES)
    size_temperature: float = Field(1.0, gt=0)


def check_batch(tasks: Sequence[TaskConfig], data: DataConfig) -> None:
    """Check that the tasks' quotas and shares add up to `data.batch`.

    Raises:
        ValueError: they do not add up, or a setting has no effect.
    """
    shared = [task for task in tasks if task.share is not None]
    auto = [task for task in shared if task.share == "auto"]
    if data.size_temperature != 1.0 and not auto:
        raise ValueError(
            f"data.size_temperature: got {data.size_temperature}, but no task has share: auto; remove the key"
        )
    if data.batch is None or not shared:
        if shared:
            raise ValueError(
                f"data.batch: got none, expected the examples of a step: tasks.{shared[0].name} has a share of them"
            )
        if data.batch is not None:
            raise ValueError(
                f"data.batch: got {data.batch}, but every task has a quota; remove the key, or give a task share: auto"
            )
        return
    fixed = sum(data.batch * task.share for task in shared if isinstance(task.share, float))
    left = data.batch - sum(task.quota or 0 for task in tasks) - fixed
    for sharing, rest in ((shared, left + fixed), (auto, left)):  # every task has an example in every step
        if rest < len(sharing):
            raise ValueError(
                f"data.batch: got {data.batch}, which leaves {max(rest, 0.0):g} for tasks "
                f"{', '.join(task.name for task in sharing)}, expected at least one example each; raise data.batch"
            )
    if not auto and abs(left) > 1e-6 * data.batch:
        raise ValueError(
            f"data.batch: got {data.batch}, but quotas and shares come to {data.batch - left:g}, expected the same; "
            "change a share, or give a task share: auto"
        )
