"""The loss `cosent`, and what pair losses share: one value for all pairs of a task becomes a term of the loss."""

from __future__ import annotations

from collections.abc import Callable

from fused_contrastive import cosent
from torch import Tensor

from harness.losses.interface import LossTerm, StepShare, TaskLossSettings, embeddings_at, on_device_of
from harness.types import PairPart


def cosent_term(task: TaskLossSettings, part: PairPart, table_TD: Tensor, share: StepShare) -> LossTerm:
    """log(1 + sum over pairs i, j with score_i > score_j of e^((cosine_j - cosine_i) / temperature))."""
    return pair_term(cosent, task, part, table_TD, share)


def pair_term(
    loss_of_pairs: Callable[..., Tensor], task: TaskLossSettings, part: PairPart, table_TD: Tensor, share: StepShare
) -> LossTerm:
    """beta * weight / (sum of the pair tasks' weights) * loss of all pairs, on the share that the task is assigned to.

    loss_of_pairs: called like `fused_contrastive.cosent`.
    """
    if part.task not in share.pair_tasks:
        zero = table_TD.new_zeros(())
        return LossTerm(zero, zero)
    loss = loss_of_pairs(
        embeddings_at(table_TD, part.text1_S),
        embeddings_at(table_TD, part.text2_S),
        on_device_of(table_TD, part.score_S),
        temperature=share.pair_temperature(task),
        matryoshka=share.matryoshka,
        implementation=share.config.implementation,
    )
    return LossTerm(share.config.beta * task.weight / share.sum_of_pair_task_weights * loss, loss.detach())
