"""From the loss settings of a recipe to the run's objective."""

from __future__ import annotations

from harness.config import RunConfig
from harness.data.config import TaskConfig
from harness.losses.interface import TaskLossSettings
from harness.losses.objective import Objective


def build_objective(config: RunConfig, num_ranks: int) -> Objective:
    """The loss of the run.

    Raises:
        ValueError: a step cannot be divided among `num_ranks` ranks.
    """
    tasks = [loss_settings(task) for task in config.tasks]
    objective = Objective(tasks, config.loss, config.model.matryoshka_dims, config.model.matryoshka_weights)
    objective.check_divisible(num_ranks)
    return objective


def loss_settings(task: TaskConfig) -> TaskLossSettings:
    """The settings of a task that its losses read."""
    return TaskLossSettings(
        name=task.name,
        temperature=task.temperature,
        weight=task.weight,
        margin=task.negatives.margin,
        symmetric=task.negatives.symmetric,
        document_tower=task.negatives.document_tower,
        hardness=task.negatives.hardness,
        losses=task.losses,
        teacher_temperature=task.teacher_temperature or 1.0,
    )
