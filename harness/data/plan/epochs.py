"""How many steps an epoch of a task takes: how many until a run has drawn all of its rows once."""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil, gcd

import numpy as np

from harness.data.plan.draw import draws_per_turn, turn
from harness.data.plan.task import Task
from harness.types import Balance


def steps_of_epochs(
    tasks: Sequence[Task], epochs: float, epoch_of: str | None, *, seed: int, balance: Balance
) -> tuple[str, int]:
    """(a task, the steps after which `epochs` times its rows have been drawn).

    epoch_of: the task; None: the one that needs the most steps to be seen once, so that every task is.
    """
    position = [task.config.name for task in tasks].index(epoch_of) if epoch_of else None
    if position is None:
        once = [_steps(tasks, i, 1.0, seed, balance) for i in range(len(tasks))]
        position = int(np.argmax(once))
    return tasks[position].config.name, _steps(tasks, position, epochs, seed, balance)


def _steps(tasks: Sequence[Task], position: int, epochs: float, seed: int, balance: Balance) -> int:
    """The first step after which a task has drawn `epochs` times its rows."""
    count, place, quotas = draws_per_turn(tasks, position, balance)
    visits = max(1, ceil(round(epochs * tasks[position].data.num_rows, 6) / count))
    if place is None:  # in every step
        return visits
    turns = np.array(quotas) // gcd(*quotas)
    block, turns_left = divmod(visits - 1, int(turns[place]))
    first = block * int(turns.sum())
    for step in range(first + 1, first + int(turns.sum()) + 1):
        chosen, earlier = turn(quotas, balance, seed, step)
        if chosen == place and earlier == block * int(turns[place]) + turns_left:
            return step
    raise AssertionError("a block has every turn of every task")
