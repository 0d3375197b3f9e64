"""A step in three phases: embed → score → replay (gradient cache; Gao et al. 2021, arXiv 2101.06983).

embed   encode every micro-batch; only the embeddings are kept, and the graphs of as many as memory allows (graphs.py)
score   share the embeddings with all ranks (losses/table.py), compute all losses and their gradient by the embeddings
replay  backpropagate the gradient of the embeddings, micro-batch by micro-batch; one without a graph is encoded again

Peak memory is that of one micro-batch and of the graphs that are kept, however many texts a step has. All ranks run the
same number of forwards and backwards; a rank with fewer texts runs micro-batches without texts, whose gradient is zero.

R in shapes: the rows that every rank gives to the gathered embeddings, texts first, then padding.

Each phase measures its own seconds and checks its own numbers. A loss or gradient that is not finite raises the same
`NonFiniteError` on every rank.
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
from harness.engine.guard import NonFiniteError, check_gradients, check_loss
from harness.engine.step import Step
from harness.engine.zero import GradientNormError, ZeroEngine
from harness.losses.objective import Objective, ObjectiveOutput, step_metrics
from harness.losses.table import DividedTable, WholeTable, choose_gather
from harness.stopwatch import stopwatch


@stopwatch("embed")
def embed(engine: ZeroEngine, step: Step) -> list[Tensor]:
    """Phase 1: embeddings [texts, D] of each micro-batch of this rank; the first `step.graphs_kept` with a graph."""
    engine.train_mode(True)  # dropout is off after loading the model and after each evaluation
    embeddings: list[Tensor] = []
    rows = _Rows(step)
    for index in range(len(step.batches)):
        is_kept = index < step.graphs_kept
        with torch.set_grad_enabled(is_kept or step.embeds_with_graph):
            embedding = _forward(engine, step, index)
        embeddings.append(embedding if is_kept else rows.copied(index, embedding))
    return embeddings


class _Rows:
    """One array for the embeddings that are kept without a graph.

    As arrays of their own they would lie among the activations of their micro-batches, and a C library's heap cannot
    join what is freed on both sides of them: a step of 244 micro-batches held 12 GB.
    """

    def __init__(self, step: Step) -> None:
        self._counts = step.texts_per_batch
        self._rows: tuple[Tensor, ...] = ()

    def copied(self, index: int, embedding_BD: Tensor) -> Tensor:
        """[texts, D]: a copy of the embeddings of a micro-batch, without its graph and without a padding row."""
        if not self._rows:
            self._rows = embedding_BD.new_empty((sum(self._counts), embedding_BD.shape[1])).split(self._counts)
        copy_BD = self._rows[index]
        return copy_BD.copy_(embedding_BD[: len(copy_BD)].detach())


@dataclass(frozen=True, slots=True)
class Scores:
    """The result of the score phase. `metrics` and `own_similarity` are equal on every rank."""

    gradients: list[Tensor]  # [texts, D] per micro-batch of this rank: d(step's loss) / d(embeddings)
    metrics: dict[str, float]  # of the objective, see `ObjectiveOutput`
    own_similarity: dict[str, np.ndarray]  # task → [B, M]: cosine to own negatives; NaN: padded or left out


@stopwatch("score")
def score(engine: ZeroEngine, objective: Objective, step: Step, embeddings: Sequence[Tensor]) -> Scores:
    """Phase 2: the step's loss over the embeddings of all ranks; each rank computes its share of the queries.

    Raises:
        NonFiniteError: the loss or an embedding is not finite.
    """
    counts, schedule = step.texts_per_batch, step.schedule
    local_RD = embeddings[0].new_zeros((schedule.rows_per_rank, embeddings[0].shape[1]))
    for rows_RD, embedding in zip(local_RD[: sum(counts)].split(counts), embeddings, strict=True):
        rows_RD.copy_(embedding[: len(rows_RD)].detach())  # without the padding row of a micro-batch without texts
    table = _share_embeddings(objective, step, local_RD)

    share = comm.rank(), comm.world_size()
    rows = table if isinstance(table, DividedTable) else table.row_TD
    output = objective.backward(step.plan, rows, share, peers=comm.RingPeers())

    gradient_RD = table.gradient()
    metrics, own_similarity = _sum_over_ranks(output, engine.device)
    check_loss(step.plan, metrics, table.is_finite())
    return Scores(list(gradient_RD[: sum(counts)].split(counts)), step_metrics(metrics), own_similarity)


def _share_embeddings(objective: Objective, step: Step, local_RD: Tensor) -> WholeTable | DividedTable:
    """Gather the embeddings of all ranks, or only those that cannot pass from rank to rank (`loss.gather`)."""
    gathered_rows, dim = objective.gathered_rows(step.plan), local_RD.shape[1]
    num_texts, num_gathered = len(step.plan.texts), len(gathered_rows)
    if choose_gather(objective.gather, num_texts, num_gathered, dim, comm.world_size()) == "ring":
        return DividedTable(local_RD, step.schedule, gathered_rows)
    return WholeTable(local_RD, step.schedule)


@stopwatch("replay")
def replay(engine: ZeroEngine, step: Step, embeddings: Sequence[Tensor], gradients: Sequence[Tensor]) -> None:
    """Phase 3: accumulate the parameter gradients in the engine, micro-batch by micro-batch.

    Raises:
        NonFiniteError: a parameter gradient is not finite; not in fp16, where an overflow only lowers the loss scale.
    """
    probe_M = torch.empty(len(gradients), device=engine.device)
    for index, gradient in enumerate(gradients):
        engine.set_boundary(index == len(gradients) - 1)
        embedding = embeddings[index] if index < step.graphs_kept else _replayed(engine, step, index)
        padded = torch.zeros_like(embedding)
        padded[: len(gradient)] = gradient  # the padding row of a micro-batch without texts keeps a zero gradient
        probe_M[index] = engine.accumulate(embedding, padded)
    if engine.precision != "fp16":
        check_gradients(step, probe_M.unbind())


def update_weights(engine: ZeroEngine, step: Step) -> dict[str, float]:
    """After the phases: apply the accumulated gradient; see `ZeroEngine.update_weights`.

    Raises:
        NonFiniteError: the norm of the gradients is not finite, so that clipping would make all of them zero.
    """
    try:
        return engine.update_weights(step.number)
    except GradientNormError:
        tasks = [part.task for part in step.plan.parts]
        what = "the norm of the gradients (each of them is finite)"
        raise NonFiniteError(step.plan, what, tasks, np.empty(0, dtype=np.int64)) from None


def _replayed(engine: ZeroEngine, step: Step, index: int) -> Tensor:
    """The embeddings of a micro-batch, now with a graph, which is measured if the step has a meter."""
    with nullcontext() if step.meter is None else step.meter.watch(index, step.batches[index]):
        return _forward(engine, step, index)


def _forward(engine: ZeroEngine, step: Step, index: int) -> Tensor:
    # Dropout masks depend only on these numbers. So the replay phase draws the masks of the embed phase again, and no
    # generator state is stored.
    torch.manual_seed(derive_key(step.seed, "dropout", step.number, comm.rank(), index) & (2**63 - 1))
    return engine.forward(step.batches[index])


def _sum_over_ranks(output: ObjectiveOutput, device: torch.device) -> tuple[dict[str, float], dict[str, np.ndarray]]:
    """Metrics and own similarities of the whole step, in one collective.

    Metrics of shares add up to those of the step. A rank holds similarity 0 for the queries of other ranks, so the sum
    over ranks holds every query's similarity. NaN on one rank stays NaN.
    """
    similarities = [value.flatten() for value in output.own_similarity.values()]
    flat_values = [torch.stack([value.to(device, torch.float64) for value in output.metrics.values()]), *similarities]
    summed = comm.all_reduce_sum(torch.cat([values.double() for values in flat_values])).cpu().numpy()
    metrics = dict(zip(output.metrics, summed[: len(output.metrics)].tolist(), strict=True))
    own_similarity, start = {}, len(metrics)
    for name, value in output.own_similarity.items():
        own_similarity[name] = summed[start : start + value.numel()].reshape(value.shape)
        start += value.numel()
    return metrics, own_similarity
