"""Measures the cost of a step: seconds in total and per phase, texts and tokens per second, memory."""

from __future__ import annotations

import resource
import sys
import time

import torch

from harness.engine.step import Step
from harness.stopwatch import stopwatch


class StepCost:
    """Measures a step from `start` until `metrics` is called."""

    def __init__(self, step: Step, started: float) -> None:
        self._step, self._started = step, started

    @classmethod
    def start(cls, step: Step) -> StepCost:
        """Begin to measure now. The stopwatch forgets the evaluations and checkpoints before this step."""
        stopwatch.take()
        return cls(step, time.perf_counter())

    def metrics(self) -> dict[str, float]:
        """Seconds, rates and memory of the step on this rank.

        `seconds/data` is the time that the trainer waited for the step's plan and tokens; `seconds` includes it. Rates
        count the texts and tokens of all ranks. `seconds/communication` is also included in the phases' seconds.
        """
        plan, waited = self._step.plan, self._step.seconds_waiting
        phases = {f"seconds/{name}": value for name, value in {"data": waited, **stopwatch.take()}.items()}
        seconds = waited + time.perf_counter() - self._started
        return {
            "texts_per_second": len(plan.texts) / max(seconds, 1e-9),
            "tokens_per_second": int(plan.texts.length_T.sum()) / max(seconds, 1e-9),
            "seconds": seconds,
            **phases,
            "memory_bytes": peak_memory_bytes(),
        }


def peak_memory_bytes() -> int:
    """The most memory this rank has held so far: GPU memory if it computes there, else resident memory."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024  # macOS counts bytes, Linux KiB
