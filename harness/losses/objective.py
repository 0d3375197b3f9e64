"""The step's loss, from the embedding table and the plan's row indices alone (balanced as in the paper's eq. 3).

    L = (sum over the queries of all retrieval and classification tasks of weight * loss) / (sum of weights)
        + beta * (mean over the STS tasks, weighted by their weights, of loss)

A task's loss is the sum of those that its recipe names. Query losses (`info_nce`, `margin_mse`, `kl`) have a value per
query and make the first mean; pair losses (`cosent`, `angle`) have one value over all pairs of a task and make the
second. A query's weight counts once however many losses it takes.

To add a loss: its mathematics in a file beside this one; a line in `QUERY_TERMS` or `PAIR_TERMS` of `terms.py`, which
computes it; its name in `LOSSES_OF_KIND` of `harness.types`, from which the recipe's checks take the names (the data
floor must not import this one), and in `DISTILLATION_LOSSES` there if it reads a ranker's scores. Nothing else.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from fused_contrastive import Peers
from torch import Tensor

from harness.losses.config import LossConfig
from harness.losses.terms import Share, TaskTerms, term_of
from harness.types import PairPart, QueryPart, StepPlan

_METRICS = ("positive_similarity", "negative_similarity", "false_negatives_masked")


@dataclass(frozen=True, slots=True)
class ObjectiveOutput:
    """The step's `loss`; `metrics`, detached scalars with the same keys at every step and share.

    `own_similarity`, per retrieval or classification task of the step: [B, M], cosine of every query to its own
    negatives: NaN where padded or left out of the denominator (known, by the margin or a guide suspected to be a
    positive), 0 for the queries of other shares.

    Keys: `loss`; `loss/<task>`, unweighted, 0 when the step does not hold the task; `positive_similarity` and
    `negative_similarity`, means over the step's queries (a query's own negatives if it has any, else those of its
    denominator; a query without any counts 0); `false_negatives_masked`, candidates left out of denominators because
    they are known or, by the margin or a guide, suspected to be positives (and each query itself where queries stand
    among the documents). What shares of a step give adds up to the whole's.
    """

    loss: Tensor
    metrics: dict[str, Tensor]
    own_similarity: dict[str, Tensor]


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
        self.matryoshka_dims = None if matryoshka_dims is None else tuple(matryoshka_dims)
        self.matryoshka_weights = None if matryoshka_weights is None else tuple(matryoshka_weights)

    def check_shares(self, count: int) -> None:
        """Say before the first step that a step cannot be divided among `count` ranks.

        Raises:
            ValueError: a symmetric task has the implementation `reference`, which sums over the queries of one only.
        """
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
        """Loss and metrics of one share (index, count) of the step; loss, gradients and metrics of all shares add up.

        A share holds the index-th slice of every task's queries, against all documents of the task, and every count-th
        STS task. The loss carries the graph.

        Args:
            plan: names the step's texts and how the tasks refer to them.
            table_TD: row t is the embedding of text t of the plan, not normalised.
            share: which part of the work to do, and among how many it is divided.
            peers: those who do the other shares at the same time; symmetric tasks sum over the queries of all.

        Raises:
            ValueError: the share is not one of count, or the plan names a task the run does not have.
        """
        return self._sum_terms(plan, table_TD, self._share(plan, share, peers), lambda loss: loss)

    def backward(
        self, plan: StepPlan, table_TD: Tensor, share: tuple[int, int] = (0, 1), peers: Peers | None = None
    ) -> ObjectiveOutput:
        """The same numbers without a graph; their gradient joins `table_TD.grad`, term by term.

        Each term's graph, with its copies of embeddings and their gradients, is freed before the next term is computed:
        memory is that of the largest, however many tasks a step holds. Arguments and errors as above.
        """
        return self._sum_terms(plan, table_TD, self._share(plan, share, peers), _differentiated)

    def _sum_terms(
        self, plan: StepPlan, table_TD: Tensor, share: Share, taken: Callable[[Tensor], Tensor]
    ) -> ObjectiveOutput:
        """`taken`: what becomes of a term's loss before it is added."""
        keys = ("loss", *(f"loss/{name}" for name in self.tasks), *_METRICS)
        metrics = {key: table_TD.new_zeros(()) for key in keys}
        own_similarity: dict[str, Tensor] = {}
        loss = taken(table_TD[:0].sum())  # zero, but part of the graph: a share may hold nothing
        for part in plan.parts:
            task = self.tasks[part.task]
            for name in task.losses:
                term = term_of(name, task, part, table_TD, share)
                loss = loss + taken(term.loss)
                for key, metric in term.metrics.items():
                    if name == task.reporting or key == f"loss/{part.task}":
                        metrics[key] += metric
                if term.own_similarity_BM is not None and name == task.reporting:
                    own_similarity[part.task] = term.own_similarity_BM
        metrics["loss"] += loss.detach()
        return ObjectiveOutput(loss, metrics, own_similarity)

    def _share(self, plan: StepPlan, share: tuple[int, int], peers: Peers | None) -> Share:
        index, count = share
        if not 0 <= index < count:
            raise ValueError(f"objective share: got {share}, expected (index, count) with 0 <= index < count")
        unknown = {part.task for part in plan.parts} - set(self.tasks)
        if unknown:
            raise ValueError(
                f"step {plan.step}: got parts of {sorted(unknown)}, expected the run's tasks {sorted(self.tasks)}"
            )
        retrieval = [part for part in plan.parts if isinstance(part, QueryPart)]
        sts = [part.task for part in plan.parts if isinstance(part, PairPart)]
        return Share(
            index=index,
            count=count,
            loss=self.loss,
            dims=self.matryoshka_dims,
            level_weights=self.matryoshka_weights,
            query_weight=sum(self.tasks[part.task].weight * len(part.query_B) for part in retrieval),
            num_queries=sum(len(part.query_B) for part in retrieval),
            sts_weight=sum(self.tasks[name].weight for name in sts),
            pair_tasks=frozenset(sts[index::count]),
            peers=peers,
        )


def _differentiated(loss: Tensor) -> Tensor:
    """The value alone, once its gradient is in the leaves; a share that holds nothing of a task has no graph."""
    if loss.requires_grad:
        loss.backward()
    return loss.detach()
