"""A step in three phases: embed → score → replay (gradient cache; Gao et al. 2021, arXiv 2101.06983).

embed   every micro-batch without a graph: only its embeddings are kept
score   gather the embeddings of all ranks, compute all losses and their gradient by the embeddings
replay  each micro-batch again, with a graph and the cached gradient

Peak memory is that of one micro-batch, whatever the effective batch. All ranks run the same number of forwards and
backwards; a rank with fewer texts runs dummies with zero gradient.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from harness import comm
from harness.data.plan.permutation import derive_key
from harness.engine.zero import ZeroEngine
from harness.losses.objective import Objective, ObjectiveOutput
from harness.types import Schedule, StepPlan, TokenBatch


@dataclass(frozen=True, slots=True)
class Step:
    """One step as this rank sees it."""

    plan: StepPlan
    schedule: Schedule
    batches: Sequence[TokenBatch]  # this rank's micro-batches, dummies included
    seed: int
    keep_graph: bool = True  # with a single micro-batch: one forward instead of two
    seconds_waiting: float = 0.0  # how long the trainer waited for this step's plan and tokens

    @property
    def texts_per_batch(self) -> list[int]:
        """How many real texts each of this rank's micro-batches holds."""
        return [len(rows) for rows in self.schedule.micro_batches[comm.rank()]]

    @property
    def keeps_graph(self) -> bool:
        return self.keep_graph and self.schedule.num_micro_batches == 1


def embed(engine: ZeroEngine, step: Step) -> list[Tensor]:
    """Phase 1: embeddings [texts, D] of each micro-batch, without a graph unless the only one is kept."""
    with nullcontext() if step.keeps_graph else torch.no_grad():
        return [_forward(engine, step, index) for index in range(len(step.batches))]


@dataclass(frozen=True, slots=True)
class Scores:
    """What phase 2 finds, the same numbers on every rank but for the gradients."""

    gradients: list[Tensor]  # of the step's loss by each of this rank's micro-batches' embeddings
    metrics: dict[str, float]
    own_similarity: dict[str, np.ndarray]  # per InfoNCE task [B, M]: cosine to own negatives, NaN: padded or left out
    table_TD: Tensor  # the gathered embeddings


def score(engine: ZeroEngine, objective: Objective, step: Step, embeddings: Sequence[Tensor]) -> Scores:
    """Phase 2: the loss over the gathered table, split over ranks by queries."""
    counts, schedule = step.texts_per_batch, step.schedule
    real = [embedding[:count].detach() for embedding, count in zip(embeddings, counts, strict=True)]
    local_RD = embeddings[0].new_zeros((schedule.rows_per_rank, embeddings[0].shape[1]))
    local_RD[: sum(counts)] = torch.cat(real)
    slot_T = torch.from_numpy(schedule.slot_T).to(engine.device)
    table_TD = comm.all_gather_rows(local_RD)[slot_T].requires_grad_()

    output = objective.backward(step.plan, table_TD, (comm.rank(), comm.world_size()), comm.RingPeers())

    assert table_TD.grad is not None  # zero where this rank's share holds nothing
    gradient_WRD = local_RD.new_zeros((comm.world_size() * schedule.rows_per_rank, table_TD.shape[1]))
    gradient_WRD[slot_T] = table_TD.grad
    mine_RD = comm.reduce_scatter_rows(gradient_WRD)
    gradients = list(mine_RD[: sum(counts)].split(counts))
    metrics, own_similarity = _sum_over_ranks(output, engine.device)
    return Scores(gradients, metrics, own_similarity, table_TD.detach())


def replay(engine: ZeroEngine, step: Step, embeddings: Sequence[Tensor], gradients: Sequence[Tensor]) -> list[Tensor]:
    """Phase 3: parameter gradients, micro-batch by micro-batch. Returns each one's finiteness probe."""
    probes = []
    for index, gradient in enumerate(gradients):
        last = index == len(gradients) - 1
        engine.set_boundary(last)
        embedding = embeddings[index] if step.keeps_graph else _forward(engine, step, index)
        padded = torch.zeros_like(embedding)
        padded[: len(gradient)] = gradient  # the row of a dummy stays zero
        probes.append(engine.accumulate(embedding, padded, last=last))
    return probes


def _forward(engine: ZeroEngine, step: Step, index: int) -> Tensor:
    # Dropout masks depend on these four numbers only: the replay draws the same ones, and nothing is stored.
    torch.manual_seed(derive_key(step.seed, "dropout", step.plan.step, comm.rank(), index) & (2**63 - 1))
    return engine.forward(step.batches[index])


def _sum_over_ranks(output: ObjectiveOutput, device: torch.device) -> tuple[dict[str, float], dict[str, np.ndarray]]:
    """Metrics and own similarities of the whole step, by one sum; ranks hold 0 for others' queries (NaN + 0: NaN)."""
    similarities = [value.flatten() for value in output.own_similarity.values()]
    parts = [torch.stack([value.to(device, torch.float64) for value in output.metrics.values()]), *similarities]
    summed = comm.all_reduce_sum(torch.cat([part.double() for part in parts])).cpu().numpy()
    metrics = dict(zip(output.metrics, summed[: len(output.metrics)].tolist(), strict=True))
    own_similarity, start = {}, len(metrics)
    for name, value in output.own_similarity.items():
        own_similarity[name] = summed[start : start + value.numel()].reshape(value.shape)
        start += value.numel()
    return metrics, own_similarity
