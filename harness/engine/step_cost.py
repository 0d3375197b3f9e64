"""Measures the cost of a step: seconds in total and per phase, texts and tokens per second, memory."""

from __future__ import annotations

import time

from harness.engine.budget import peak_memory_bytes
from harness.engine.step import Step
from harness.stopwatch import stopwatch


class StepCost:
    """Measures a step from `start` until `metrics` is called."""

    def __init__(self, started: float) -> None:
        self._started = started

    @classmethod
    def start(cls) -> StepCost:
        """Begin to measure now. The stopwatch forgets the evaluations and checkpoints before this step."""
        stopwatch.take()
        return cls(time.perf_counter())

    def metrics(self, step: Step) -> dict[str, float]:
        """Seconds, rates and memory of the step on this rank, and the share of its micro-batches whose graph was kept.

        `seconds/data` is the time that the trainer waited for the step's plan and tokens; `seconds` includes it. Rates
        count the texts and tokens of all ranks. `seconds/communication` is also included in the phases' seconds.
        """
        plan, waited = step.plan, step.seconds_waiting
        phases = {f"seconds/{name}": value for name, value in {"data": waited, **stopwatch.take()}.items()}
        seconds = waited + time.perf_counter() - self._started
        return {
            "texts_per_second": len(plan.texts) / max(seconds, 1e-9),
            "tokens_per_second": int(plan.texts.length_T.sum()) / max(seconds, 1e-9),
            "seconds": seconds,
            **phases,
            "memory_bytes": peak_memory_bytes(),
            "graphs_kept": step.graphs_kept / step.schedule.num_micro_batches,
        }
