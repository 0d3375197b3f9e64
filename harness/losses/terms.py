"""What one loss of one task adds to a share of the step: a slice of a task's queries, or all pairs of an STS task.

A query's loss counts with its task's weight over those of all queries of the step; a pair task's with beta and its
weight over those of all pair tasks of the step.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
import torch.nn.functional as F
from fused_contrastive import InfoNCEStats, Peers, cosent, info_nce
from torch import Tensor

from harness.losses.angle import angle
from harness.losses.config import LossConfig
from harness.losses.distillation import cosines_of_lists, kl, margin_mse
from harness.types import LossName, PairPart, QueryPart


@dataclass(frozen=True, slots=True)
class TaskTerms:
    """What the loss knows of a task. `temperature` None: the loss section's, by kind.

    weight: against the other tasks of the same group (retrieval and classification, or sts) in the same step.
    """

    name: str
    temperature: float | None = None
    weight: float = 1.0
    margin: float | None = None  # drop negatives with similarity > positive's + margin
    symmetric: bool = False  # info_nce also from each positive to the queries of its task
    document_tower: bool = False  # info_nce also from each positive to the documents
    hardness: float | None = None  # own negatives weigh e^(hardness * similarity)
    losses: tuple[LossName, ...] = ("info_nce",)  # their sum is the task's loss
    teacher_temperature: float = 1.0  # of the ranker's scores

    @property
    def reporting(self) -> LossName:
        """The loss whose similarities and masks are the task's: info_nce, which alone masks, else the first."""
        return "info_nce" if "info_nce" in self.losses else self.losses[0]


@dataclass(frozen=True, slots=True)
class Share:
    """Which piece of the step is computed here, how, and the denominators of the whole step."""

    index: int
    count: int
    loss: LossConfig
    dims: tuple[int, ...] | None  # Matryoshka; None: all
    level_weights: tuple[float, ...] | None
    query_weight: float
    num_queries: int
    sts_weight: float
    pair_tasks: frozenset[str]  # those of the step's pair tasks that fall to this share
    peers: Peers | None


@dataclass(frozen=True, slots=True)
class Term:
    """What one loss of one part gives to the share."""

    loss: Tensor
    metrics: dict[str, Tensor]
    own_similarity_BM: Tensor | None = None


def term_of(name: LossName, task: TaskTerms, part: QueryPart | PairPart, table_TD: Tensor, share: Share) -> Term:
    """The term of one of the task's losses."""
    if isinstance(part, QueryPart):
        return QUERY_TERMS[name](task, part, table_TD, share)
    return PAIR_TERMS[name](task, part, table_TD, share)


def _info_nce_term(task: TaskTerms, part: QueryPart, table_TD: Tensor, share: Share) -> Term:
    """A slice of the part's queries. The plan has chosen the documents, so `task` and `step` are one here."""
    rows = part.share(share.index, share.count)
    query_B = _to(table_TD, part.query_B[rows])
    own_similarity_BM = table_TD.new_zeros(part.negative_BM.shape)
    if not len(query_B) and not task.symmetric:  # there the others wait for this share's sums over nothing
        return Term(table_TD.new_zeros(()), {}, own_similarity_BM)
    loss, stats = info_nce(
        _gather(table_TD, query_B),
        _gather(table_TD, _to(table_TD, part.document_N)),
        positive_BP=_to(table_TD, part.positive_BP[rows]),
        temperature=share.loss.temperature if task.temperature is None else task.temperature,
        matryoshka_dims=share.dims,
        matryoshka_weights=share.level_weights,
        weight_B=table_TD.new_full((len(query_B),), task.weight),
        negative_BM=_to(table_TD, part.negative_BM[rows]),
        excluded_BX=_to(table_TD, part.excluded_BX[rows]),
        scope="own" if part.scope == "own" else "step",
        false_negative_margin=task.margin,
        hardness=task.hardness,
        symmetric=task.symmetric,
        same_tower="document" if task.document_tower else None,
        peers=share.peers if task.symmetric else None,
        denominator=share.query_weight,
        implementation=share.loss.implementation,
    )
    if stats.negative_similarity_BM is not None:
        assert stats.negative_kept_BM is not None
        own_similarity_BM[rows] = stats.negative_similarity_BM.masked_fill(~stats.negative_kept_BM, torch.nan)
    metrics = {
        f"loss/{part.task}": stats.loss_B.sum() / len(part.query_B),
        "positive_similarity": stats.positive_similarity_B.sum() / share.num_queries,
        "negative_similarity": _negative_similarity(stats).sum() / share.num_queries,
        "false_negatives_masked": stats.masked_B.sum(),
    }
    return Term(loss, metrics, own_similarity_BM)


def _negative_similarity(stats: InfoNCEStats) -> Tensor:
    """[B]: mean cosine to the query's own negatives if it has any, else to those of its denominator, else 0."""
    mean_B = stats.mean_negative_similarity_B
    if stats.negative_similarity_BM is not None:
        own_mean_B = stats.negative_similarity_BM.nanmean(1)
        mean_B = own_mean_B.where((~stats.negative_similarity_BM.isnan()).any(1), mean_B)
    return mean_B.nan_to_num()


def _distillation_term(
    loss_of: Callable[[Tensor, Tensor, Tensor, Tensor], Tensor],
    task: TaskTerms,
    part: QueryPart,
    table_TD: Tensor,
    share: Share,
) -> Term:
    """A slice of the part's queries, each against its own documents; the teacher judges them, so none is masked."""
    rows = part.share(share.index, share.count)
    dims = share.dims or (table_TD.shape[1],)
    query_B = _to(table_TD, part.query_B[rows])
    cosines, teacher = [], []
    for place_BC, score_BC in (
        (part.positive_BP[rows], part.positive_score_BP),
        (part.negative_BM[rows], part.negative_score_BM),
    ):
        assert score_BC is not None  # the plan gives them to tasks with these losses
        document_BC = np.where(place_BC >= 0, part.document_N[place_BC], -1)
        cosines.append(cosines_of_lists(table_TD, query_B, _to(table_TD, document_BC), dims))
        teacher.append(_to(table_TD, score_BC[rows]).to(cosines[-1].dtype) / task.teacher_temperature)
    positive_KBP, negative_KBM = cosines
    temperature = share.loss.temperature if task.temperature is None else task.temperature
    loss_B = positive_KBP.new_zeros(len(query_B))
    levels = zip(share.level_weights or (1.0,) * len(dims), positive_KBP, negative_KBM, strict=True)
    for weight, positive_BP, negative_BM in levels:
        loss_B = loss_B + weight * loss_of(positive_BP / temperature, negative_BM / temperature, *teacher)
    positive_B, negative_B = (
        cosine_KBC[-1].detach().sum(1) / (~score_BC.isnan()).sum(1).clamp_min(1)
        for cosine_KBC, score_BC in zip(cosines, teacher, strict=True)
    )
    metrics = {
        f"loss/{part.task}": loss_B.detach().sum() / len(part.query_B),
        "positive_similarity": positive_B.sum() / share.num_queries,
        "negative_similarity": negative_B.sum() / share.num_queries,
    }
    own_similarity_BM = table_TD.new_zeros(part.negative_BM.shape)
    padded_BM = _to(table_TD, part.negative_BM[rows]) < 0
    own_similarity_BM[rows] = negative_KBM[-1].detach().to(table_TD.dtype).masked_fill(padded_BM, torch.nan)
    return Term(task.weight * loss_B.sum() / share.query_weight, metrics, own_similarity_BM)


def _pair_term(loss_of: Callable[..., Tensor], task: TaskTerms, part: PairPart, table_TD: Tensor, share: Share) -> Term:
    """All pairs of the part, on the share that it falls to."""
    if part.task not in share.pair_tasks:
        return Term(table_TD.new_zeros(()), {})
    loss = loss_of(
        _gather(table_TD, _to(table_TD, part.text1_S)),
        _gather(table_TD, _to(table_TD, part.text2_S)),
        _to(table_TD, part.score_S),
        temperature=share.loss.cosent_temperature if task.temperature is None else task.temperature,
        matryoshka_dims=share.dims,
        matryoshka_weights=share.level_weights,
        implementation=share.loss.implementation,
    )
    weighted = share.loss.beta * task.weight / share.sts_weight * loss
    return Term(weighted, {f"loss/{part.task}": loss.detach()})


def _gather(table_TD: Tensor, index_N: Tensor) -> Tensor:
    """table_TD[index_N], but its backward adds repeated rows in a fixed order on every device."""
    return F.embedding(index_N, table_TD)


def _to(table_TD: Tensor, array: np.ndarray) -> Tensor:
    return torch.tensor(array, device=table_TD.device)


QUERY_TERMS: dict[LossName, Callable[[TaskTerms, QueryPart, Tensor, Share], Term]] = {
    "info_nce": _info_nce_term,
    "margin_mse": partial(_distillation_term, margin_mse),
    "kl": partial(_distillation_term, kl),
}
PAIR_TERMS: dict[LossName, Callable[[TaskTerms, PairPart, Tensor, Share], Term]] = {
    "cosent": partial(_pair_term, cosent),
    "angle": partial(_pair_term, angle),
}
