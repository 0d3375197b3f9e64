"""The loss `cosent`: pairs with a higher score shall have a higher cosine."""

from __future__ import annotations

from fused_contrastive import cosent
from torch import Tensor

from harness.losses.interface import LossTerm, StepShare, TaskLossSettings
from harness.losses.pairs import pair_term
from harness.types import PairPart


def cosent_term(task: TaskLossSettings, part: PairPart, table_TD: Tensor, share: StepShare) -> LossTerm:
    """log(1 + sum over pairs i, j with score_i > score_j of e^((cosine_j - cosine_i) / temperature))."""
    return pair_term(cosent, task, part, table_TD, share)
