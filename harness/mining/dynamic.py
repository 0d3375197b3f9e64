"""Dynamic negatives: after a step, replace the negatives that have become easy, or rank all candidates again.

The similarities come from the loss, which computes them anyway, or from encoding the queries of the next steps. All
ranks have the same similarities and make the same decisions, so that no communication is needed.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from types import MappingProxyType
from typing import Protocol

import numpy as np

from harness.data.bank.negatives import Candidates
from harness.data.plan.task import Task
from harness.mining.config import MiningConfig
from harness.mining.judging.slots import Standing
from harness.mining.task_negatives import TaskNegatives, below
from harness.mining.upcoming import UpcomingScores
from harness.types import QueryPart, StepPlan

LookAhead = Callable[[int, int], Mapping[str, UpcomingScores]]  # called with (first step, last step); see `Upcoming`


class Rerank(Protocol):
    """The interface of `Reranking`."""

    def __call__(self, tasks: Sequence[Task], step: int, /) -> Mapping[str, Candidates]:
        """The candidates of each task, by task name, ranked with the weights after the step number `step`."""
        ...

    def reopen(self, task: Task, step: int, /) -> Candidates:
        """Load from disk the candidates that were ranked for a task after the step number `step`."""
        ...

    def keep(self, steps: Collection[int], /) -> None:
        """Remove all rankings from disk except those made after `steps` and those that a checkpoint needs."""
        ...


class DynamicNegatives:
    """Decides which negatives every query uses next, for all tasks of a run with ranked negatives.

    look_ahead: used if `mining.check` is `upcoming`. rerank: used when `mining.remine` or `mining.exhausted` requires a
    ranking. say: prints a line. Every rank must create this object and call its methods in the same order.
    """

    def __init__(
        self,
        config: MiningConfig,
        tasks: Sequence[Task],
        num_steps: int,
        *,
        look_ahead: LookAhead,
        rerank: Rerank,
        say: Callable[[str], None] = lambda line: None,
    ) -> None:
        self.config, self._num_steps = config, num_steps
        self._look_ahead, self._rerank, self._say = look_ahead, rerank, say
        self.tasks = {
            task.config.name: TaskNegatives(config, task, task.bank)
            for task in tasks
            if task.bank is not None and task.bank.num_slots
        }

    @property
    def compared_tasks(self) -> frozenset[str]:
        """The tasks whose rule is told where their negatives stand among a step's documents; see `observe`."""
        return frozenset(name for name, task in self.tasks.items() if task.rule is not None and task.rule.compares)

    def rank_at_start(self) -> None:
        """With `mining.remine.at_start`: rank every task's candidates by the starting model. Before the first step."""
        if not self.config.remine.at_start or not self.tasks:
            return
        for name, candidates in self._rerank([task.task for task in self.tasks.values()], 0).items():
            task = self.tasks[name]
            unfilled, num_queries = task.begin(candidates), task.task.data.num_rows
            fewer = f"; {unfilled:,} have fewer than negatives.per_query, {task.banks.num_slots}" if unfilled else ""
            self._say(f"task {name}: the candidates of {num_queries:,} queries are ranked{fewer}")

    def observe(
        self,
        plan: StepPlan,
        own_similarity: Mapping[str, np.ndarray],
        standings: Mapping[str, Standing] = MappingProxyType({}),
    ) -> dict[str, float]:
        """Record the similarities of a finished step and decide about replacements; returns the metrics.

        own_similarity: per task [B, M], the similarity of each query to its own negatives; NaN where the loss did not
        use the negative. standings: of the `compared_tasks` in the step.
        """
        ranks_all, known_before = self._ranks_all_after(plan.step), self.measured()
        metrics = self._watch(plan, own_similarity, standings)
        # If all candidates are ranked again now, a judgement would have no effect.
        metrics |= self._judge(() if ranks_all else tuple(self.tasks.values()), plan.step)
        metrics |= self._rank_anew(list(self.tasks.values()) if ranks_all else self._run_out(plan.step), plan.step)
        for task in self.tasks.values():
            task.banks.forget_before(plan.step)
        if metrics["queries_reranked"]:
            self._rerank.keep(self.rankings())
        return metrics | self._measured_metrics(known_before)

    def _watch(
        self, plan: StepPlan, own_similarity: Mapping[str, np.ndarray], standings: Mapping[str, Standing]
    ) -> dict[str, float]:
        """Record the step's similarities; returns the means of S and S0 over its ranked negatives (NaN if it has none).

        With a rule, both means are over the negatives whose S0 is known, so that they can be compared. With one that
        compares, also the mean of the negatives' quantiles.
        """
        similarities, starts, quantiles = [], [], []
        for part in plan.parts:
            if isinstance(part, QueryPart) and part.task in self.tasks:
                task = self.tasks[part.task]
                similarity_BM = np.where(part.negative_BM >= 0, own_similarity[part.task], np.nan)
                if task.rule is not None:
                    standing = standings.get(part.task)
                    start_BM = task.watch(part, similarity_BM, plan.step, standing)
                    quantiles += [] if standing is None else [standing.quantile_BM]
                    similarity_BM = np.where(np.isnan(start_BM), np.nan, similarity_BM)
                    starts.append(start_BM)
                similarities.append(similarity_BM)
        return {
            "negative_similarity_watched": _mean_or_nan(similarities),
            "negative_similarity_start": _mean_or_nan(starts),
            **({"negative_quantile": _mean_or_nan(quantiles)} if self.compared_tasks else {}),
        }

    def _judge(self, tasks: Sequence[TaskNegatives], step: int) -> dict[str, float]:
        """Replace negatives of the tasks whose rule judges after this step.

        `negatives_exhausted` counts the negatives to replace for which no candidate is left; one that stays so is
        counted at every judgement. The counts by reason are there if the recipe has such a reason.
        """
        judged = [task for task in tasks if task.rule is not None and task.rule.judges_after(step)]
        if judged and self.config.check == "upcoming":
            for name, scores in self._look_ahead(self._decided_from(step), self._num_steps).items():
                self.tasks[name].take(scores.row_B, scores.similarity_BM)
        counts = [task.judge(step, self._decided_from(step)) for task in judged]
        metrics = {"negatives_replaced": sum(count.replaced for count in counts)}
        if self.compared_tasks:
            metrics["negatives_too_hard"] = sum(count.too_hard for count in counts)
        if self.config.successor == "score":
            metrics["negatives_by_score"] = sum(count.by_score for count in counts)
        metrics["negatives_exhausted"] = sum(count.exhausted for count in counts)
        return {name: float(count) for name, count in metrics.items()}

    def measured(self) -> dict[str, dict[str, float]]:
        """Task → setting → the threshold that its rule has taken from the run's similarities, for run.json."""
        found = {name: task.rule.measured() for name, task in self.tasks.items() if task.rule is not None}
        known = {
            name: {key: value for key, value in numbers.items() if not np.isnan(value)}
            for name, numbers in found.items()
        }
        return {name: numbers for name, numbers in known.items() if numbers}

    def _measured_metrics(self, known_before: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
        """The thresholds that rules measure, as metrics; one that has become known in this step is said."""
        metrics = {}
        for name, task in self.tasks.items():
            for key, value in {} if task.rule is None else task.rule.measured().items():
                metrics[f"negative_{key}/{name}"] = value
                if not np.isnan(value) and key not in known_before.get(name, {}):
                    self._say(f"task {name}: mining.{key}: auto is {value:.4g}, from its negatives' first similarities")
        return metrics

    def _rank_anew(self, tasks: Sequence[TaskNegatives], step: int) -> dict[str, float]:
        """Rank the candidates of all queries of these tasks with the weights after this step.

        `windows_unfilled` counts the queries that have fewer candidates than slots.
        """
        unfilled = 0
        if tasks:
            candidates = self._rerank([task.task for task in tasks], step)
            for task in tasks:
                ranked = candidates[task.task.config.name]
                unfilled += task.begin_ranking(ranked, first_step=self._decided_from(step), ranked_after=step)
        num_queries = sum(task.task.data.num_rows for task in tasks)
        return {"queries_reranked": float(num_queries), "windows_unfilled": float(unfilled)}

    def _ranks_all_after(self, step: int) -> bool:
        every = self.config.remine.every
        return bool(every) and step % every == 0 and self._decided_from(step) <= self._num_steps

    def _run_out(self, step: int) -> list[TaskNegatives]:
        """The tasks to rank again after this step, because too many of their queries have no further candidate."""
        if self.config.exhausted != "remine" or self._decided_from(step) > self._num_steps:
            return []
        return [task for task in self.tasks.values() if task.has_run_out()]

    def _decided_from(self, step: int) -> int:
        """The first step at which a decision made after the step number `step` takes effect."""
        return step + 1 + self.config.delay

    def rankings(self) -> set[int]:
        """The steps after which the banks in use were ranked; 0 for banks ranked before the run."""
        return {bank.ranked_after for task in self.tasks.values() for bank in task.banks.banks}

    def state(self) -> dict[str, np.ndarray]:
        """The state to store in a checkpoint, as arrays named TASK/FIELD."""
        return {f"{name}/{key}": array for name, task in self.tasks.items() for key, array in task.state().items()}

    def load_state(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Restore a result of `state()`; a checkpoint without arrays changes nothing."""
        if not arrays:
            return
        for name, task in self.tasks.items():
            state = below(f"{name}/", arrays)
            steps = state["ranked_after"].tolist()
            if self.config.remine.at_start and 0 in steps:
                task.begin(self._rerank.reopen(task.task, 0))
            rankings = [step for step in steps if step]
            task.load_state(state, {step: self._rerank.reopen(task.task, step) for step in rankings})


def _mean_or_nan(arrays: Sequence[np.ndarray]) -> float:
    """Mean of all entries that are not NaN; NaN if there are none."""
    numbers = np.concatenate([array[~np.isnan(array)] for array in arrays] or [np.empty(0)])
    return float(numbers.mean()) if len(numbers) else float("nan")
