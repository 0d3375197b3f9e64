"""From a value for all queries of a task to a term of the step's loss."""

from __future__ import annotations

from torch import Tensor

from harness.losses.distillation import own_similarities
from harness.losses.interface import LossTerm, StepShare, TaskLossSettings
from harness.types import QueryPart


def term_of_task(loss: Tensor, task: TaskLossSettings, part: QueryPart, table_TD: Tensor, share: StepShare) -> LossTerm:
    """The term of a loss that has one value for a task: every query of the task has this loss.

    loss: the part of the value that belongs to the share; those of all shares add up to the value.
    """
    share_of_queries = task.weight * len(part.query_B) / share.sum_of_query_weights
    return LossTerm(share_of_queries * loss, loss.detach(), own_similarities(part, table_TD, share))
