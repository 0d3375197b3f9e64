"""Finds numbers of a recipe under which a run learns next to nothing, however good its data are: a line each."""

from __future__ import annotations

from collections.abc import Iterator

from harness.config import RunConfig
from harness.data.config import TaskConfig

# Each bound lies far outside what anybody trains with, so that an unusual setting is not mistaken for a useless one.
_LARGEST_DROPOUT = 0.9
_LEAST_SPREAD = 0.1  # of scores: cosines differ by 2 at most, and are divided by the temperature
_LEAST_RATE, _LARGEST_RATE = 1e-9, 0.03  # float32 holds a weight of 0.02 to within 2e-9
_LARGEST_EPSILON = 1e-3
_LEAST_NORM = 1e-6
_LARGEST_DECAY = 0.1  # of a weight, in one step
_LEAST_WEIGHT = 1e-6  # of the largest weight of the same mean


def useless_settings(config: RunConfig) -> list[str]:
    """One line for every number that keeps the run from learning, with its knob; empty if there is none."""
    return [
        *_of_training(config),
        *(line for task in config.tasks for line in _of_temperature(config, task)),
        *_of_weights(config),
    ]


def _of_training(config: RunConfig) -> Iterator[str]:
    training = config.training
    rate, decay = training.learning_rate, training.learning_rate * training.weight_decay
    if training.dropout is not None and training.dropout > _LARGEST_DROPOUT:
        yield (
            f"training.dropout is {training.dropout:g}: one activation in {1 / (1 - training.dropout):,.0f} is kept, "
            "so embeddings and gradients are mostly chance; lower it (usual: 0.1)"
        )
    if rate < _LEAST_RATE:
        yield (
            f"training.learning_rate is {rate:g}: a step moves a weight by about as much, less than float32 can add to "
            "it, so that weights stay as they are; raise it (usual: 1e-6 to 1e-4)"
        )
    if rate > _LARGEST_RATE:
        yield (
            f"training.learning_rate is {rate:g}: a step moves every weight by about as much, more than most weights "
            "hold, so that what the model knows is lost; lower it (usual: 1e-6 to 1e-4)"
        )
    if training.adam_epsilon > _LARGEST_EPSILON:
        yield (
            f"training.adam_epsilon is {training.adam_epsilon:g}, above usual gradients: it divides what a step would "
            "change; lower it (usual: 1e-8)"
        )
    if 0 < training.max_grad_norm < _LEAST_NORM:
        yield (
            f"training.max_grad_norm is {training.max_grad_norm:g}: gradients are cut to less than Adam tells from 0 "
            f"(training.adam_epsilon {training.adam_epsilon:g}); raise it (usual: 1), or set 0 to cut none"
        )
    if decay > _LARGEST_DECAY:
        yield (
            f"training.weight_decay is {training.weight_decay:g}: each step takes {min(1.0, decay):.0%} of "
            "every weight away; lower it (usual: 0.001 to 0.1)"
        )


def _of_temperature(config: RunConfig, task: TaskConfig) -> Iterator[str]:
    if task.losses == ("margin_mse",):  # has no temperature
        return
    shared = "cosent_temperature" if task.kind == "sts" else "temperature"
    temperature = task.temperature or getattr(config.loss, shared)
    if 2 / temperature < _LEAST_SPREAD:
        knob = f"loss.{shared}" if task.temperature is None else f"tasks.{task.name}.temperature"
        yield (
            f"task {task.name}: {knob} is {temperature:g}: cosines divided by it differ by {2 / temperature:.2g} at "
            "most, so all scores are nearly equal and the gradient is nearly 0; lower it (usual: 0.01 to 0.1)"
        )


def _of_weights(config: RunConfig) -> Iterator[str]:
    for is_pairs in (False, True):
        tasks = [task for task in config.tasks if (task.kind == "sts") == is_pairs]
        largest = max((task.weight for task in tasks), default=1.0)
        for task in tasks:
            if task.weight < _LEAST_WEIGHT * largest:
                yield (
                    f"task {task.name}: weight is {task.weight:g} beside {largest:g} of another task, so it teaches "
                    "nothing; raise it, or remove the task"
                )
