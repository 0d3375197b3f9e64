"""The input of a step's computation on one rank."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from harness import comm
from harness.types import Schedule, StepPlan, TokenBatch


@dataclass(frozen=True, slots=True)
class Step:
    """A planned step: its plan, its schedule, and the tokens of the texts that this rank encodes."""

    plan: StepPlan
    schedule: Schedule
    batches: Sequence[TokenBatch]  # this rank's micro-batches; one without texts holds a padding row
    seed: int  # of the run
    keep_graph: bool = True  # the recipe's training.keep_graph
    seconds_waiting: float = 0.0  # how long the trainer waited for the plan and the tokens of this step

    @property
    def number(self) -> int:
        """Which step of the run it is, counted from 1."""
        return self.plan.step

    @property
    def texts_per_batch(self) -> list[int]:
        """How many texts each of this rank's micro-batches holds."""
        return [len(rows) for rows in self.schedule.micro_batches[comm.rank()]]

    @property
    def reuses_graph(self) -> bool:
        """Whether the graph of the embed phase is used again in the replay phase, which saves the second forward."""
        return self.keep_graph and self.schedule.num_micro_batches == 1
