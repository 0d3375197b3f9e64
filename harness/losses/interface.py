"""The arguments and the result of a loss function. `harness/loss_table.py` lists the loss functions.

Every rank computes one share of the step. A query loss (a value per query) takes the share's slice of a task's queries.
A pair loss (one value for all pairs of a task) is computed by the share that the task is assigned to.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from fused_contrastive import Matryoshka, Peers
from torch import Tensor

from harness.loss_table import LOSSES, LossName, default_loss
from harness.losses.config import LossConfig
from harness.losses.table import DividedTable, HeldPart
from harness.types import QueryPart


@dataclass(frozen=True, slots=True)
class TaskLossSettings:
    """The settings of a task that its losses read.

    temperature: None means the value in the recipe's `loss` section (`temperature` for query losses,
        `cosent_temperature` for pair losses).
    weight: relative to the other tasks of the step in the same mean. Query losses form one mean, pair losses another.
    """

    name: str
    temperature: float | None = None
    weight: float = 1.0
    margin: float | None = None  # leave out negatives with similarity > similarity of the positive + margin
    symmetric: bool = False  # info_nce also compares each positive with the queries of its task
    document_tower: bool = False  # info_nce also compares each positive with the documents
    hardness: float | None = None  # own negatives weigh e^(hardness * similarity)
    losses: tuple[LossName, ...] = (default_loss("retrieval"),)  # their sum is the task's loss
    teacher_temperature: float = 1.0  # the ranker's scores are divided by it

    @property
    def reporting_loss(self) -> LossName:
        """The loss whose similarities are reported: the first that applies the `negatives` options, else the first."""
        return next((name for name in self.losses if LOSSES[name].uses_negatives_options), self.losses[0])


@dataclass(frozen=True, slots=True)
class StepShare:
    """The share of the step to compute, the run's settings, and the denominators of the whole step."""

    index: int  # 0 to count - 1
    count: int  # number of shares: one per rank
    config: LossConfig
    matryoshka_dims: tuple[int, ...] | None  # None: all dimensions, one level
    matryoshka_weights: tuple[float, ...] | None
    sum_of_query_weights: float  # over all queries of the step: their tasks' weights
    num_queries: int  # queries of the step
    sum_of_pair_task_weights: float  # over all pair tasks of the step
    pair_tasks: frozenset[str]  # the pair tasks of the step that are assigned to this share
    peers: Peers | None  # the ranks that compute the other shares
    divided: DividedTable | None = None  # losses that pass documents on get the rows that this rank holds

    @property
    def matryoshka(self) -> Matryoshka | None:
        """The levels in the form that the kernels take."""
        return None if self.matryoshka_dims is None else Matryoshka(self.matryoshka_dims, self.matryoshka_weights)

    def levels(self, num_dimensions: int) -> tuple[tuple[int, ...], tuple[float, ...]]:
        """(how many of the first dimensions each Matryoshka level compares, the weights of the levels)."""
        dims = self.matryoshka_dims or (num_dimensions,)
        return dims, self.matryoshka_weights or (1.0,) * len(dims)

    def held(self, part: QueryPart) -> HeldPart:
        """The queries of this share and the documents at hand, for a loss that passes documents on."""
        if self.divided is not None:
            return self.divided.held(part)
        return HeldPart(part, part.share(self.index, self.count), slice(None), np.arange(len(part.query_B)))

    def query_temperature(self, task: TaskLossSettings) -> float:
        """The temperature of the task's query losses."""
        return self.config.temperature if task.temperature is None else task.temperature

    def pair_temperature(self, task: TaskLossSettings) -> float:
        """The temperature of the task's pair losses."""
        return self.config.cosent_temperature if task.temperature is None else task.temperature


@dataclass(frozen=True, slots=True)
class QuerySimilarities:
    """The similarities that a query loss measures, detached. The values of all shares add up to the step's."""

    positive: Tensor  # sum over the share's queries of the mean cosine to their positives / queries of the step
    negative: Tensor  # sum over the share's queries that have a negative of the mean cosine to their negatives
    queries_with_negatives: Tensor  # number of these queries
    false_negatives_masked: Tensor  # number of documents left out of the denominators
    own_negative_BM: Tensor  # cosine to own negatives, NaN where padded or left out; 0 for other shares' queries


@dataclass(frozen=True, slots=True)
class LossTerm:
    """The result of one loss of one task for a share of the step. The values of all shares add up to the step's."""

    weighted_loss: Tensor  # added to the step's loss, with a graph
    task_loss: Tensor  # added to the metric `loss/<task>`: the task's mean loss without weights, detached
    similarities: QuerySimilarities | None = None  # required for query losses; None for pair losses

    def times(self, factor: float) -> LossTerm:
        """The same loss, `factor` times as large; the similarities stay."""
        if factor == 1:
            return self
        return LossTerm(factor * self.weighted_loss, factor * self.task_loss, self.similarities)

    @classmethod
    def without_queries(cls, table_TD: Tensor, num_queries: int, num_negatives: int) -> LossTerm:
        """The term of a share that holds none of a task's queries."""
        zero = table_TD.new_zeros(())
        own_negative_BM = table_TD.new_zeros((num_queries, num_negatives))
        return cls(zero, zero, QuerySimilarities(zero, zero, zero, zero, own_negative_BM))


# (task's settings, its QueryPart or PairPart, embedding table [T, D], share) -> term
LossFunction = Callable[[TaskLossSettings, Any, Tensor, StepShare], LossTerm]


def embeddings_at(table_TD: Tensor, row_N: np.ndarray) -> Tensor:
    """table_TD[row_N]: [N, D]. Its backward adds the gradients of repeated rows in a fixed order on every device."""
    return F.embedding(on_device_of(table_TD, row_N), table_TD)


def on_device_of(table_TD: Tensor, array: np.ndarray) -> Tensor:
    """A copy of the array on the table's device."""
    return torch.tensor(array, device=table_TD.device)
