"""The step's loss, from the embedding table and the plan's row indices alone (balanced as in the paper's eq. 3).

    L = (sum over the queries of all InfoNCE parts of weight * loss) / (sum of weights)
        + beta * (mean over the STS parts, weighted by the tasks' weights, of CoSENT)

To add a loss: give its part a dataclass in `harness.types`, its mathematics a file beside this one, and its function
a line in `_TERMS`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from fused_contrastive import InfoNCEStats, cosent, info_nce
from torch import Tensor

from harness.losses.config import LossConfig
from harness.types import CoSENTPart, InfoNCEPart, StepPlan

_METRICS = ("positive_similarity", "negative_similarity", "false_negatives_masked")


@dataclass(frozen=True, slots=True)
class TaskTerms:
    """What the loss knows of a task. `temperature` None: the loss section's, by kind. `weight` counts within a kind."""

    name: str
    temperature: float | None = None
    weight: float = 1.0
    margin: float | None = None  # drop negatives with similarity > positive's + margin


@dataclass(frozen=True, slots=True)
class ObjectiveOutput:
    """`loss` carries the graph. `metrics` are detached scalars with the same keys at every step and share.

    `own_similarity`, per InfoNCE task of the step: [B, M], cosine of every query to its own negatives (0 where padded
    and for the queries of other shares).

    Keys: `loss`; `loss/<task>`, unweighted, 0 when the step does not hold the task; `positive_similarity` and
    `negative_similarity`, means over the step's queries (a query's own negatives if it has any, else those of its
    denominator; a query without any counts 0); `false_negatives_masked`, candidates left out of denominators because
    they are known or, by the margin, suspected to be positives. What shares of a step give adds up to the whole's.
    """

    loss: Tensor
    metrics: dict[str, Tensor]
    own_similarity: dict[str, Tensor]


@dataclass(frozen=True, slots=True)
class _Share:
    """Which piece of a part is computed here, and the denominators of the whole step."""

    index: int
    count: int
    query_weight: float
    num_queries: int
    sts_weight: float

    def rows(self, length: int) -> slice:
        return slice(length * self.index // self.count, length * (self.index + 1) // self.count)


class Objective:
    """The loss of a run: call it with a step's plan and embedding table."""

    def __init__(
        self,
        tasks: Sequence[TaskTerms],
        loss: LossConfig,
        matryoshka_dims: Sequence[int] | None,
        matryoshka_weights: Sequence[float] | None,
    ) -> None:
        self.tasks = {task.name: task for task in tasks}
        self.loss = loss
        self.matryoshka_dims = matryoshka_dims
        self.matryoshka_weights = matryoshka_weights

    def __call__(self, plan: StepPlan, table_TD: Tensor, share: tuple[int, int] = (0, 1)) -> ObjectiveOutput:
        """Loss and metrics of one share (index, count) of the step; loss, gradients and metrics of all shares add up.

        A share holds the index-th slice of every InfoNCE part's queries, against all documents of the part, and
        every count-th STS part.

        Args:
            plan: names the step's texts and how the tasks refer to them.
            table_TD: row t is the embedding of text t of the plan, not normalised.
            share: which part of the work to do, and among how many it is divided.

        Raises:
            ValueError: the share is not one of count, or the plan names a task the run does not have.
        """
        piece = self._share(plan, share)
        keys = ("loss", *(f"loss/{name}" for name in self.tasks), *_METRICS)
        metrics = {key: table_TD.new_zeros(()) for key in keys}
        own_similarity = {}
        loss = table_TD[:0].sum()  # zero, but part of the graph: a share may hold nothing
        num_seen: Counter[type] = Counter()
        for part in plan.parts:
            term = _TERMS[type(part)](self, part, num_seen[type(part)], table_TD, piece)
            num_seen[type(part)] += 1
            loss = loss + term.loss
            for key, metric in term.metrics.items():
                metrics[key] += metric
            if term.own_similarity_BM is not None:
                own_similarity[part.task] = term.own_similarity_BM
        metrics["loss"] += loss.detach()
        return ObjectiveOutput(loss, metrics, own_similarity)

    def _share(self, plan: StepPlan, share: tuple[int, int]) -> _Share:
        index, count = share
        if not 0 <= index < count:
            raise ValueError(f"objective share: got {share}, expected (index, count) with 0 <= index < count")
        unknown = {part.task for part in plan.parts} - set(self.tasks)
        if unknown:
            raise ValueError(
                f"step {plan.step}: got parts of {sorted(unknown)}, expected the run's tasks {sorted(self.tasks)}"
            )
        retrieval = [part for part in plan.parts if isinstance(part, InfoNCEPart)]
        sts = [part for part in plan.parts if isinstance(part, CoSENTPart)]
        return _Share(
            index=index,
            count=count,
            query_weight=sum(self.tasks[part.task].weight * len(part.query_B) for part in retrieval),
            num_queries=sum(len(part.query_B) for part in retrieval),
            sts_weight=sum(self.tasks[part.task].weight for part in sts),
        )


@dataclass(frozen=True, slots=True)
class _Term:
    """What one part gives to the share."""

    loss: Tensor
    metrics: dict[str, Tensor]
    own_similarity_BM: Tensor | None = None


def _info_nce_term(objective: Objective, part: InfoNCEPart, position: int, table_TD: Tensor, share: _Share) -> _Term:
    """A slice of the part's queries. The plan has chosen the documents, so `task` and `step` are one here."""
    rows = share.rows(len(part.query_B))
    task = objective.tasks[part.task]
    query_B = _to(table_TD, part.query_B[rows])
    own_similarity_BM = table_TD.new_zeros(part.negative_BM.shape)
    if not len(query_B):
        return _Term(table_TD.new_zeros(()), {}, own_similarity_BM)
    loss, stats = info_nce(
        _gather(table_TD, query_B),
        _gather(table_TD, _to(table_TD, part.document_N)),
        _to(table_TD, part.positive_B[rows]),
        temperature=objective.loss.temperature if task.temperature is None else task.temperature,
        matryoshka_dims=objective.matryoshka_dims,
        matryoshka_weights=objective.matryoshka_weights,
        weight_B=table_TD.new_full((len(query_B),), task.weight),
        negative_BM=_to(table_TD, part.negative_BM[rows]),
        excluded_BX=_to(table_TD, part.excluded_BX[rows]),
        scope="own" if part.scope == "own" else "step",
        false_negative_margin=task.margin,
        denominator=share.query_weight,
        implementation=objective.loss.implementation,
    )
    if stats.negative_similarity_BM is not None:
        own_similarity_BM[rows] = stats.negative_similarity_BM.nan_to_num()
    metrics = {
        f"loss/{part.task}": stats.loss_B.sum() / len(part.query_B),
        "positive_similarity": stats.positive_similarity_B.sum() / share.num_queries,
        "negative_similarity": _negative_similarity(stats).sum() / share.num_queries,
        "false_negatives_masked": stats.masked_B.sum(),
    }
    return _Term(loss, metrics, own_similarity_BM)


def _negative_similarity(stats: InfoNCEStats) -> Tensor:
    """[B]: mean cosine to the query's own negatives if it has any, else to those of its denominator, else 0."""
    mean_B = stats.mean_negative_similarity_B
    if stats.negative_similarity_BM is not None:
        own_mean_B = stats.negative_similarity_BM.nanmean(1)
        mean_B = own_mean_B.where((~stats.negative_similarity_BM.isnan()).any(1), mean_B)
    return mean_B.nan_to_num()


def _cosent_term(objective: Objective, part: CoSENTPart, position: int, table_TD: Tensor, share: _Share) -> _Term:
    """All pairs of the part, on the share that its position falls to."""
    if position % share.count != share.index:
        return _Term(table_TD.new_zeros(()), {})
    task = objective.tasks[part.task]
    loss = cosent(
        _gather(table_TD, _to(table_TD, part.text1_S)),
        _gather(table_TD, _to(table_TD, part.text2_S)),
        _to(table_TD, part.score_S),
        temperature=objective.loss.cosent_temperature if task.temperature is None else task.temperature,
        matryoshka_dims=objective.matryoshka_dims,
        matryoshka_weights=objective.matryoshka_weights,
        implementation=objective.loss.implementation,
    )
    weighted = objective.loss.beta * task.weight / share.sts_weight * loss
    return _Term(weighted, {f"loss/{part.task}": loss.detach()})


def _gather(table_TD: Tensor, index_N: Tensor) -> Tensor:
    """table_TD[index_N], but its backward adds repeated rows in a fixed order on every device."""
    return F.embedding(index_N, table_TD)


def _to(table_TD: Tensor, array: np.ndarray) -> Tensor:
    return torch.tensor(array, device=table_TD.device)


_TERMS: dict[type, Callable[..., _Term]] = {
    InfoNCEPart: _info_nce_term,
    CoSENTPart: _cosent_term,
}
