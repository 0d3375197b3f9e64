"""The input of a step's computation on one rank."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol

from harness import comm
from harness.types import Schedule, StepPlan, TokenBatch


class Meter(Protocol):
    """The interface of `engine.graphs.GraphMeter`."""

    def watch(self, index: int, batch: TokenBatch) -> AbstractContextManager[None]: ...


@dataclass(frozen=True, slots=True)
class Step:
    """A planned step: its plan, its schedule, and the tokens of the texts that this rank encodes."""

    plan: StepPlan
    schedule: Schedule
    batches: Sequence[TokenBatch]  # this rank's micro-batches; one without texts holds a padding row
    seed: int  # of the run
    graphs_kept: int = 0  # so many micro-batches of every rank, from the first, keep their graphs for the replay phase
    embeds_with_graph: bool = False  # without one, this model's embeddings would not be the same bits
    meter: Meter | None = None  # measures graphs in the replay phase
    seconds_waiting: float = 0.0  # how long the trainer waited for the plan and the tokens of this step

    @property
    def number(self) -> int:
        """Which step of the run it is, counted from 1."""
        return self.plan.step

    @property
    def texts_per_batch(self) -> list[int]:
        """How many texts each of this rank's micro-batches holds."""
        return [len(rows) for rows in self.schedule.micro_batches[comm.rank()]]
