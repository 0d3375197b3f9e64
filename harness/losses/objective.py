"""Computes the step's loss, its gradient and its metrics from the embedding table and the plan's row indices."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from importlib import import_module
from typing import Any

import numpy as np
import torch
from fused_contrastive import Peers
from torch import Tensor

from harness.loss_table import LOSSES, LossName
from harness.losses.config import LossConfig
from harness.losses.interface import LossFunction, StepShare, TaskLossSettings
from harness.losses.table import DividedTable
from harness.types import PairPart, QueryPart, StepPlan


@dataclass(frozen=True, slots=True)
class ObjectiveOutput:
    """Loss, metrics and similarities of one share of a step. The values of all shares add up to the step's.

    `step_metrics` makes the metrics of the step from these sums.

    loss: the share's part of the step's loss.
    metrics: detached scalars, with the same keys in the same order for every step and share:
        `loss`;
        `loss/<task>` for every task of the run: its mean loss without weights, NaN if the step does not hold the task;
        `positive_similarity`: mean cosine over the step's queries, NaN if it holds none;
        `negative_similarity`: sum over the queries with a negative of the mean cosine to their negatives, NaN if the
            step holds no query. The negatives of a query are its own negatives that no mask leaves out; without own
            ones, those in its denominator;
        `queries_with_negatives`: number of these queries; the others have no loss;
        `false_negatives_masked`: how many documents were left out of denominators because they are known positives, or
            because the margin or a guide model suspects that they are positives. If the documents include the queries,
            each query itself is counted, too.
    own_similarity: task → [B, M], for each task of the step with queries: cosine of every query to its own negatives.
        NaN where padded or left out of the denominator, 0 for queries of other shares.
    """

    loss: Tensor
    metrics: dict[str, Tensor]
    own_similarity: dict[str, Tensor]


class Objective:
    """The loss of a run (balanced as in the paper's eq. 3):

        L = (sum over the queries of all retrieval and classification tasks of weight * loss) / (sum of weights)
            + beta * (sum over the STS tasks of weight * loss) / (sum of weights)

    Both sums of weights are those of the whole step. A task's loss is the sum of the losses that its recipe names, each
    times its entry in `loss.weights`.
    Query losses have a value per query and stand in the first mean; pair losses have one value for all pairs of a task
    and stand in the second. A query's weight counts once, however many losses it has.

    To add a loss: see `harness/loss_table.py`.
    """

    def __init__(
        self,
        tasks: Sequence[TaskLossSettings],
        loss: LossConfig,
        matryoshka_dims: Sequence[int] | None,
        matryoshka_weights: Sequence[float] | None,
    ) -> None:
        self.tasks = {task.name: task for task in tasks}
        self.loss = loss
        self.matryoshka_dims = None if matryoshka_dims is None else tuple(matryoshka_dims)
        self.matryoshka_weights = None if matryoshka_weights is None else tuple(matryoshka_weights)
        self._functions = {name: loss_function(name) for task in tasks for name in task.losses}

    @property
    def gather(self) -> str:
        """The recipe's `loss.gather`. `auto` is `table` with the implementation `reference`, which has no ring."""
        return "table" if (self.loss.gather, self.loss.implementation) == ("auto", "reference") else self.loss.gather

    def check_divisible(self, count: int) -> None:
        """Check that a step can be divided among `count` ranks.

        Raises:
            ValueError: a symmetric task or a ring has the implementation `reference`, which sees one rank only, or
                there is no loss for a ring.
        """
        if self.loss.gather == "ring" and not any(map(passes_documents, self._functions)):
            can = ", ".join(filter(passes_documents, LOSSES))
            raise ValueError(
                f"loss.gather: got ring, but no task has a loss that can pass documents on ({can}), expected one; set "
                "loss.gather: auto"
            )
        if count > 1 and self.loss.gather == "ring" and self.loss.implementation == "reference":
            raise ValueError(
                f"loss.implementation: got reference on {count} ranks with loss.gather: ring, expected one that passes "
                "documents on; set loss.implementation: auto, or loss.gather: table"
            )
        symmetric = [name for name, task in self.tasks.items() if task.symmetric]
        if count > 1 and symmetric and self.loss.implementation == "reference":
            raise ValueError(
                f"loss.implementation: got reference on {count} ranks with tasks.{symmetric[0]}.negatives.symmetric "
                "true, expected one that sums over the queries of all ranks; set loss.implementation: auto, or train "
                "in one process"
            )

    def __call__(
        self, plan: StepPlan, table_TD: Tensor, share: tuple[int, int] = (0, 1), peers: Peers | None = None
    ) -> ObjectiveOutput:
        """Loss, with a graph, and metrics of one share of the step.

        A share holds a slice of every task's queries, with all documents of the task, and every count-th STS task.
        Losses, gradients and metrics of all shares add up to those of the step.

        Args:
            plan: names the step's texts and how the tasks refer to them.
            table_TD: row t is the embedding of text t of the plan, not normalised.
            share: (index, count): the index-th of `count` equal parts of the work, counted from 0.
            peers: the ranks that compute the other shares at the same time; symmetric tasks sum over all their queries.

        Raises:
            ValueError: no such share, or the plan names a task that the run does not have.
        """
        return self._sum_terms(plan, table_TD, self._share(plan, share, peers), keep_graph=True)

    def backward(
        self,
        plan: StepPlan,
        table: Tensor | DividedTable,
        share: tuple[int, int] = (0, 1),
        peers: Peers | None = None,
    ) -> ObjectiveOutput:
        """Like `__call__`, but add the loss's gradient to that of the table; the returned loss has no graph.

        table: as `table_TD`, or divided among the ranks; then the queries of a share are those that the rank encoded.

        The gradient is computed term by term; a term is one loss of one task. The graph of a term, with copies of
        embeddings and their gradients, is freed before the next term is computed. So a step with many tasks needs no
        more memory than its largest term. Arguments and errors are those of `__call__`.
        """
        divided = None if isinstance(table, Tensor) else table
        terms_share = replace(self._share(plan, share, peers), divided=divided)
        return self._sum_terms(plan, table, terms_share, keep_graph=False)

    def gathered_rows(self, plan: StepPlan) -> np.ndarray:
        """The rows of the table, ascending, that losses need which cannot pass documents on (`loss.gather: ring`)."""
        is_needed_T = np.zeros(len(plan.texts), dtype=bool)
        for part in plan.parts:
            if not all(map(passes_documents, self.tasks[part.task].losses)):
                is_needed_T[part.table_rows] = True
        return np.flatnonzero(is_needed_T)

    def _sum_terms(
        self, plan: StepPlan, table: Tensor | DividedTable, share: StepShare, *, keep_graph: bool
    ) -> ObjectiveOutput:
        table_TD = table if isinstance(table, Tensor) else table.local_RD
        metrics = self._metrics_before_any_term(plan, table_TD)
        own_similarity: dict[str, Tensor] = {}
        loss = table_TD[:0].sum()  # 0 with a graph, so that a share without losses has a (zero) gradient
        loss = loss if keep_graph else _differentiate(loss)
        for part in plan.parts:
            task = self.tasks[part.task]
            for name in task.losses:
                term = self._functions[name](task, *_rows_for(name, part, table), share)
                term = term.times(self.loss.weights.get(name, 1.0))
                assert term.similarities is not None or not isinstance(part, QueryPart), (
                    f"loss {name}: got a LossTerm without similarities for the queries of task {part.task}, expected "
                    "them from a query loss; set similarities in its function"
                )
                loss = loss + (term.weighted_loss if keep_graph else _differentiate(term.weighted_loss))
                metrics[f"loss/{part.task}"] += term.task_loss
                if term.similarities is not None and name == task.reporting_loss:
                    metrics["positive_similarity"] += term.similarities.positive
                    metrics["negative_similarity"] += term.similarities.negative
                    metrics["queries_with_negatives"] += term.similarities.queries_with_negatives
                    metrics["false_negatives_masked"] += term.similarities.false_negatives_masked
                    own_similarity[part.task] = term.similarities.own_negative_BM
        metrics["loss"] += loss.detach()
        return ObjectiveOutput(loss, metrics, own_similarity)

    def _metrics_before_any_term(self, plan: StepPlan, table_TD: Tensor) -> dict[str, Tensor]:
        """The start value of every metric: NaN if no share of the step has anything to measure for it, else 0."""
        tasks = {part.task for part in plan.parts}
        has_queries = any(isinstance(part, QueryPart) for part in plan.parts)
        is_measured = {
            "loss": True,
            **{f"loss/{name}": name in tasks for name in self.tasks},
            "positive_similarity": has_queries,
            "negative_similarity": has_queries,
            "queries_with_negatives": True,
            "false_negatives_masked": True,
        }
        return {key: table_TD.new_full((), 0.0 if value else torch.nan) for key, value in is_measured.items()}

    def _share(self, plan: StepPlan, share: tuple[int, int], peers: Peers | None) -> StepShare:
        """The share (index, count), with the denominators of the whole step."""
        index, count = share
        if not 0 <= index < count:
            raise ValueError(f"objective share: got {share}, expected (index, count) with 0 <= index < count")
        unknown = {part.task for part in plan.parts} - set(self.tasks)
        if unknown:
            raise ValueError(
                f"step {plan.step}: got parts of {sorted(unknown)}, expected the run's tasks {sorted(self.tasks)}"
            )
        query_parts = [part for part in plan.parts if isinstance(part, QueryPart)]
        pair_tasks = [part.task for part in plan.parts if isinstance(part, PairPart)]
        return StepShare(
            index=index,
            count=count,
            config=self.loss,
            matryoshka_dims=self.matryoshka_dims,
            matryoshka_weights=self.matryoshka_weights,
            sum_of_query_weights=sum(self.tasks[part.task].weight * len(part.query_B) for part in query_parts),
            num_queries=sum(len(part.query_B) for part in query_parts),
            sum_of_pair_task_weights=sum(self.tasks[name].weight for name in pair_tasks),
            pair_tasks=frozenset(pair_tasks[index::count]),
            peers=peers,
        )


def step_metrics(summed: Mapping[str, float]) -> dict[str, float]:
    """The metrics of a step from the sums over all its shares: what is not known is NaN, never 0.

    `negative_similarity` becomes a mean over the queries that have a negative; NaN if none has.
    """
    count = summed["queries_with_negatives"]
    mean = summed["negative_similarity"] / count if count else math.nan
    return {**summed, "negative_similarity": mean}


def passes_documents(name: LossName) -> bool:
    """Whether the loss can be computed while documents pass from rank to rank."""
    return LOSSES[name].passes_documents


def _rows_for(name: LossName, part: QueryPart | PairPart, table: Tensor | DividedTable) -> tuple[Any, Tensor]:
    """The part and the embeddings whose rows it names, as the loss takes them."""
    if isinstance(table, Tensor):
        return part, table
    return (part, table.local_RD) if passes_documents(name) else (table.gathered(part), table.gathered_GD)


def loss_function(name: LossName) -> LossFunction:
    """The function that the table of losses names, imported from its module."""
    module, _, function = LOSSES[name].function.partition(":")
    return getattr(import_module(module), function)


def _differentiate(loss: Tensor) -> Tensor:
    """Add the loss's gradient to `.grad` of its leaf tensors, free its graph, and return its detached value.

    A share without examples of a task has a loss without a graph, which adds no gradient.
    """
    if loss.requires_grad:
        loss.backward()
    return loss.detach()
