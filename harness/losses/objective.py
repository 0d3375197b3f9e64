"""The step's loss, from the embedding table and the plan's row indices alone (balanced as in the paper's eq. 3).

    L = (sum over the queries of all retrieval and classification tasks of weight * loss) / (sum of weights)
        + beta * (mean over the STS tasks, weighted by their weights, of loss)

A task's loss is the sum of those that its recipe names. Query losses (`info_nce`, `margin_mse`, `kl`) have a value per
query and make the first mean; pair losses (`cosent`, `angle`) have one value over all pairs of a task and make the
second. A query's weight counts once however many losses it takes.

To add a loss: give its mathematics a file beside this one, its function a line in `_TERMS`, and its name a place in
`LOSSES_OF_KIND` of `harness.types`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
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
from harness.types import CoSENTPart, InfoNCEPart, LossName, StepPlan

_METRICS = ("positive_similarity", "negative_similarity", "false_negatives_masked")


@dataclass(frozen=True, slots=True)
class TaskTerms:
    """What the loss knows of a task. `temperature` None: the loss section's, by kind. `weight` counts within a kind."""

    name: str
    temperature: float | None = None
    weight: float = 1.0
    margin: float | None = None  # drop negatives with similarity > positive's + margin
    symmetric: bool = False  # info_nce also from each positive to the queries
    document_tower: bool = False  # info_nce also from each positive to the documents
    hardness: float | None = None  # own negatives weigh e^(hardness * similarity)
    losses: tuple[LossName, ...] = ("info_nce",)  # their sum is the task's loss
    teacher_temperature: float = 1.0  # of the ranker's scores


@dataclass(frozen=True, slots=True)
class ObjectiveOutput:
    """`loss` carries the graph. `metrics` are detached scalars with the same keys at every step and share.

    `own_similarity`, per retrieval or classification task of the step: [B, M], cosine of every query to its own
    negatives (0 where padded and for the queries of other shares).

    Keys: `loss`; `loss/<task>`, unweighted, 0 when the step does not hold the task; `positive_similarity` and
    `negative_similarity`, means over the step's queries (a query's own negatives if it has any, else those of its
    denominator; a query without any counts 0); `false_negatives_masked`, candidates left out of denominators because
    they are known or, by the margin or a guide, suspected to be positives (and each query itself where queries stand
    among the documents). What shares of a step give adds up to the whole's.
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
    peers: Peers | None

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

    def __call__(
        self, plan: StepPlan, table_TD: Tensor, share: tuple[int, int] = (0, 1), peers: Peers | None = None
    ) -> ObjectiveOutput:
        """Loss and metrics of one share (index, count) of the step; loss, gradients and metrics of all shares add up.

        A share holds the index-th slice of every task's queries, against all documents of the task, and every count-th
        STS task.

        Args:
            plan: names the step's texts and how the tasks refer to them.
            table_TD: row t is the embedding of text t of the plan, not normalised.
            share: which part of the work to do, and among how many it is divided.
            peers: those who do the other shares at the same time; symmetric tasks sum over the queries of all.

        Raises:
            ValueError: the share is not one of count, or the plan names a task the run does not have.
        """
        piece = self._share(plan, share, peers)
        keys = ("loss", *(f"loss/{name}" for name in self.tasks), *_METRICS)
        metrics = {key: table_TD.new_zeros(()) for key in keys}
        own_similarity: dict[str, Tensor] = {}
        loss = table_TD[:0].sum()  # zero, but part of the graph: a share may hold nothing
        num_seen: Counter[type] = Counter()
        for part in plan.parts:
            for number, name in enumerate(self.tasks[part.task].losses):
                term = _TERMS[name](self, part, num_seen[type(part)], table_TD, piece)
                loss = loss + term.loss
                for key, metric in term.metrics.items():
                    if number == 0 or key == f"loss/{part.task}":  # a task's first loss reports its similarities
                        metrics[key] += metric
                if term.own_similarity_BM is not None:
                    own_similarity.setdefault(part.task, term.own_similarity_BM)
            num_seen[type(part)] += 1
        metrics["loss"] += loss.detach()
        return ObjectiveOutput(loss, metrics, own_similarity)

    def _share(self, plan: StepPlan, share: tuple[int, int], peers: Peers | None) -> _Share:
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
            peers=peers,
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
    if not len(query_B) and not task.symmetric:  # there the others wait for this share's sums over nothing
        return _Term(table_TD.new_zeros(()), {}, own_similarity_BM)
    loss, stats = info_nce(
        _gather(table_TD, query_B),
        _gather(table_TD, _to(table_TD, part.document_N)),
        positive_BP=_to(table_TD, part.positive_BP[rows]),
        temperature=objective.loss.temperature if task.temperature is None else task.temperature,
        matryoshka_dims=objective.matryoshka_dims,
        matryoshka_weights=objective.matryoshka_weights,
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


def _distillation_term(
    loss_of: Callable[..., Tensor],
    objective: Objective,
    part: InfoNCEPart,
    position: int,
    table_TD: Tensor,
    share: _Share,
) -> _Term:
    """A slice of the part's queries, each against its own documents; the teacher judges them, so none is masked."""
    rows = share.rows(len(part.query_B))
    task = objective.tasks[part.task]
    dims = objective.matryoshka_dims or (table_TD.shape[1],)
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
    temperature = objective.loss.temperature if task.temperature is None else task.temperature
    loss_B = cosines[0].new_zeros(len(query_B))
    for weight, *student in zip(objective.matryoshka_weights or (1.0,) * len(dims), *cosines, strict=True):
        loss_B = loss_B + weight * loss_of(*(cosine_BC / temperature for cosine_BC in student), *teacher)
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
    own_similarity_BM[rows] = cosines[1][-1].detach()
    return _Term(task.weight * loss_B.sum() / share.query_weight, metrics, own_similarity_BM)


def _pair_term(
    loss_of: Callable[..., Tensor],
    objective: Objective,
    part: CoSENTPart,
    position: int,
    table_TD: Tensor,
    share: _Share,
) -> _Term:
    """All pairs of the part, on the share that its position falls to."""
    if position % share.count != share.index:
        return _Term(table_TD.new_zeros(()), {})
    task = objective.tasks[part.task]
    loss = loss_of(
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


_TERMS: dict[LossName, Callable[..., _Term]] = {
    "info_nce": _info_nce_term,
    "margin_mse": partial(_distillation_term, margin_mse),
    "kl": partial(_distillation_term, kl),
    "cosent": partial(_pair_term, cosent),
    "angle": partial(_pair_term, angle),
}
