"""How long a run is: its steps, where the recipe gives epochs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from harness.config import RunConfig, with_intervals
from harness.data.plan.epochs import steps_of_epochs
from harness.data.plan.task import Task
from harness.engine.config import MOST_STEPS
from harness.report.messages import say


def with_known_steps(config: RunConfig, tasks: Sequence[Task]) -> RunConfig:
    """The recipe with the steps that its epochs come to, which is said; one with steps is returned as it is.

    Raises:
        ValueError: the epochs have too many steps.
    """
    training = config.training
    if training.epochs is None:
        return config
    task, steps = steps_of_epochs(
        tasks, training.epochs, training.epoch_of, seed=training.seed, balance=config.loss.balance
    )
    if steps > MOST_STEPS:
        raise ValueError(f"training.epochs: got {training.epochs:g}, which is {steps:,} steps, expected {MOST_STEPS:,}")
    say(f"{training.epochs:g} epoch{'' if training.epochs == 1 else 's'} of {task} = {steps:,} steps")
    known = training.model_copy(update={"steps": steps, "epoch_of": task})
    return with_intervals(config.model_copy(update={"training": known}))


def epochs_fact(config: RunConfig) -> dict[str, Any] | None:
    """What run.json says of the epochs; None if the recipe gives steps."""
    training = config.training
    return None if training.epochs is None else {"epochs": training.epochs, "task": training.epoch_of}
