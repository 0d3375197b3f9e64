"""From the loss settings of a recipe to the run's objective."""

from __future__ import annotations

from collections.abc import Callable

import torch
from fused_contrastive import Matryoshka

from harness import comm
from harness.config import RunConfig
from harness.data.config import TaskConfig
from harness.losses.config import LossConfig
from harness.losses.interface import TaskLossSettings
from harness.losses.objective import Objective
from harness.losses.self_check import problem_of_triton
from harness.report.messages import warn


def build_objective(config: RunConfig, num_ranks: int, num_dimensions: int = 64) -> Objective:
    """The loss of the run. Every rank must call it.

    num_dimensions: of an embedding.

    Raises:
        ValueError: a step cannot be divided among `num_ranks` ranks.
    """
    objective = check_divisible(config, num_ranks)
    tasks, dims, weights = _tasks(config), config.model.matryoshka_dims, config.model.matryoshka_weights
    if config.loss.implementation == "auto":
        matryoshka = None if dims is None else Matryoshka(dims, weights)
        # The engine gives float32 embeddings in every precision.
        objective.loss = choose_implementation(
            config.loss,
            lambda: problem_of_triton(tasks, config.loss, matryoshka, num_dimensions, [torch.float32], comm.device()),
        )
    return objective


def check_divisible(config: RunConfig, num_ranks: int) -> Objective:
    """The loss of the run, with the implementation that the recipe names. No collectives, no work on the device.

    Raises:
        ValueError: a step cannot be divided among `num_ranks` ranks.
    """
    model = config.model
    objective = Objective(_tasks(config), config.loss, model.matryoshka_dims, model.matryoshka_weights)
    objective.check_divisible(num_ranks)
    return objective


def _tasks(config: RunConfig) -> list[TaskLossSettings]:
    return [loss_settings(task) for task in config.tasks]


def choose_implementation(loss: LossConfig, find_problem: Callable[[], str | None]) -> LossConfig:
    """The settings with `triton` or `chunked` in place of `auto`. Every rank must call it; all decide alike.

    find_problem: checks the Triton kernels on this rank's device, see `problem_of_triton`. Called on GPUs only.
    """
    if comm.device().type != "cuda":
        return loss.model_copy(update={"implementation": "chunked"})
    problems = comm.gather_objects(find_problem())
    failed = next(((rank, problem) for rank, problem in enumerate(problems) if problem is not None), None)
    if failed is None:
        return loss.model_copy(update={"implementation": "triton"})
    warn(
        f"loss.implementation: auto takes chunked: the Triton kernels do not pass their check on rank {failed[0]} "
        f"({failed[1]}); set triton to insist"
    )
    return loss.model_copy(update={"implementation": "chunked"})


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
