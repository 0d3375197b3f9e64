"""What is looked at after every step, for warnings in the run's console."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from harness.run.alarms.first_step import FirstStepAlarm
from harness.run.run import Run
from harness.run.save import LongRunWarning


def step_alarms(run: Run, trained_steps: int) -> Callable[[Mapping[str, float]], list[str]]:
    """A function from a step's metrics to the warnings that follow from them."""
    long_run, first_step = LongRunWarning(run.config, trained_steps), FirstStepAlarm(run.engine.module.parameters())

    def warnings(metrics: Mapping[str, float]) -> list[str]:
        found = (first_step.message(metrics), long_run.message(int(metrics["step"]), metrics["seconds"]))
        return [message for message in found if message is not None]

    return warnings
