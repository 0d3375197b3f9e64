"""Measures the cost of a step: seconds in total and per phase, texts and tokens per second, memory."""

from __future__ import annotations

import time

import deepspeed

from harness import comm
from harness.engine.budget import peak_memory_bytes
from harness.engine.step import Step
from harness.stopwatch import stopwatch
from harness.waits import waits

_COLLECTIVES = (  # of DeepSpeed, whose modules call them as attributes of deepspeed.comm
    "all_gather",
    "all_gather_coalesced",
    "all_gather_into_tensor",
    "all_reduce",
    "all_reduce_coalesced",
    "allgather_fn",
    "broadcast",
    "reduce",
    "reduce_scatter",
    "reduce_scatter_fn",
)
_IS_TIMED = "is_timed_by_the_harness"


class StepCost:
    """Measures a step from `start` until `metrics` is called."""

    def __init__(self, started: float) -> None:
        self._started = started
        self._received = comm.embedding_bytes_from_other_hosts()

    @classmethod
    def start(cls) -> StepCost:
        """Begin to measure now. The stopwatch forgets the evaluations and checkpoints before this step."""
        stopwatch.take()
        return cls(time.perf_counter())

    def metrics(self, step: Step) -> dict[str, float]:
        """Seconds, rates and memory of the step on this rank, and the share of its micro-batches whose graph was kept.

        `seconds/data` is the time that the trainer waited for the step's plan and tokens; `seconds` includes it. Rates
        count the texts and tokens of all ranks. `seconds/communication` and `seconds/reduce` (DeepSpeed's collectives)
        are also included in the phases' seconds.
        """
        plan, waited = step.plan, step.seconds_waiting
        phases = {f"seconds/{name}": value for name, value in {"data": waited, **stopwatch.take()}.items()}
        seconds = waited + time.perf_counter() - self._started
        return {
            "texts_per_second": len(plan.texts) / max(seconds, 1e-9),
            "tokens_per_second": int(plan.texts.length_T.sum()) / max(seconds, 1e-9),
            "seconds": seconds,
            **phases,
            "embedding_bytes_from_other_hosts": comm.embedding_bytes_from_other_hosts() - self._received,
            "memory_bytes": peak_memory_bytes(),
            "graphs_kept": step.graphs_kept / step.schedule.num_micro_batches,
        }


def time_collectives() -> None:
    """Let the stopwatch measure what DeepSpeed sends as `reduce`: gradients, and under ZeRO-3 weights. Once a process.

    A transfer that overlaps the backward counts with the time to start it only.
    """
    for name in _COLLECTIVES:
        function = getattr(deepspeed.comm, name)
        if not getattr(function, _IS_TIMED, False):
            timed = waits(name)(stopwatch("reduce")(function))
            setattr(timed, _IS_TIMED, True)
            setattr(deepspeed.comm, name, timed)
