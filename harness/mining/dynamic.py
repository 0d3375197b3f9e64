"""Dynamic replacement: watch every negative's similarity, replace those that have become easy.

The similarities come from the loss that was computed anyway, or from a look at upcoming queries. Every rank sees the
same gathered numbers and decides the same: nothing is sent.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from harness.data.bank.negatives import Candidates, NegativeBank
from harness.data.plan.task import Task
from harness.mining.config import MiningConfig
from harness.mining.rules import Rule
from harness.mining.upcoming import UpcomingScores
from harness.types import QueryPart, StepPlan

METRICS = (
    "negative_similarity_watched",
    "negative_similarity_start",
    "negatives_replaced",
    "negatives_exhausted",
    "queries_reranked",
    "windows_unfilled",
)
LookAhead = Callable[[int, int], Mapping[str, UpcomingScores]]  # (first step, last step): see `Upcoming`
Rerank = Callable[[Task, int], Candidates]  # (task, step): see `Reranking`
_ROWS = 65_536  # looked at together


class DynamicNegatives:
    """Watches the banks of a run's tasks. With rule `none` and no re-ranking it only reports their similarity."""

    def __init__(self, config: MiningConfig, tasks: Sequence[Task], num_steps: int) -> None:
        self.config, self.rule, self._num_steps = config, Rule.of(config), num_steps
        self._tasks = {task.config.name: task for task in tasks if task.bank is not None and task.bank.num_slots}
        self.banks = {name: task.bank for name, task in self._tasks.items() if task.bank is not None}
        self._seen: dict[str, list[tuple[np.ndarray, np.ndarray]]] = {name: [] for name in self.banks}  # rows, S

    def observe(
        self, plan: StepPlan, similarity: Mapping[str, np.ndarray], look_ahead: LookAhead, rerank: Rerank
    ) -> dict[str, float]:
        """Take the step's similarities [B, M] per task to each query's own negatives; returns this step's metrics.

        look_ahead, rerank: called on every rank when `mining.check` and `mining.remine` ask for them. similarity: NaN
        for negatives that the loss left out.
        `negative_similarity_watched` and `_start` are the mean S and S0 of the step's ranked negatives;
        `queries_reranked` and `windows_unfilled` (of these, with too few candidates for a first window) count training
        rows, the others negatives: one that has become easy and finds no successor is exhausted at every judgement.
        """
        metrics = dict.fromkeys(METRICS, 0.0)
        due = list(self.banks) if self._is_due_by_the_clock(plan.step) else []
        self._watch_all(plan, similarity, metrics)
        if self.rule is not None and plan.step % self.rule.interval == 0 and not due:  # a ranking makes all void
            self._judge_all(plan.step, look_ahead, metrics)
        for name in due or self._ended(plan.step):
            self._rank_anew(name, plan.step, rerank, metrics)
        for bank in self.banks.values():
            bank.forget_before(plan.step)
        return metrics

    def _watch_all(self, plan: StepPlan, similarity: Mapping[str, np.ndarray], metrics: dict[str, float]) -> None:
        """Watch the step's own negatives; the means of S and of S0 go to the metrics, 0 without any.

        With a rule both are over the negatives whose S0 is known, so that they may be compared.
        """
        now, start = [], []
        for part in plan.parts:
            if isinstance(part, QueryPart) and part.task in self.banks:
                similarity_BM = np.where(part.negative_BM >= 0, similarity[part.task], np.nan)
                if self.rule is not None:
                    start.append(self._watch(part, similarity_BM, plan.step))
                    similarity_BM = np.where(np.isnan(start[-1]), np.nan, similarity_BM)
                now.append(similarity_BM)
        metrics["negative_similarity_watched"] = _mean(now)
        metrics["negative_similarity_start"] = _mean(start)

    def _watch(self, part: QueryPart, similarity_BM: np.ndarray, step: int) -> np.ndarray:
        """Remember S of the slots whose candidate is still the one decided on; returns their S0."""
        history = self.banks[part.task]
        bank = history.newest
        if history.at(step) is not bank:  # planned before the bank was ranked anew
            return np.full(part.rank_BM.shape, np.nan)
        current_BM = part.rank_BM == bank.ranks(part.row_B)
        if self.config.check == "seen":
            self._take(part.task, part.row_B, np.where(current_BM, similarity_BM, np.nan))
        return np.where(current_BM & (part.negative_BM >= 0), bank.starts(part.row_B), np.nan)

    def _take(self, name: str, row_B: np.ndarray, similarity_BM: np.ndarray) -> None:
        """Take S of each query's negatives, NaN where there is none to judge, and S0 where it is not known yet."""
        bank = self.banks[name].newest
        first_BM = similarity_BM
        if self.config.start == "ranking" and not self.banks[name].banks[-1].ranked_after:  # by the run's first weights
            first_BM = bank.candidates.scores(row_B, bank.ranks(row_B))
        bank.start(row_B, first_BM, ~np.isnan(similarity_BM) & ~np.isnan(first_BM))
        self._seen[name].append((row_B, similarity_BM))

    def _judge_all(self, step: int, look_ahead: LookAhead, metrics: dict[str, float]) -> None:
        first_step = step + 1 + self.config.delay
        if self.config.check == "upcoming":
            for name, outlook in look_ahead(first_step, self._num_steps).items():
                self._take(name, outlook.row_B, outlook.similarity_BM)
        for name in self.banks:
            replaced, exhausted = self._judge(name, first_step)
            metrics["negatives_replaced"] += replaced
            metrics["negatives_exhausted"] += exhausted

    def _judge(self, name: str, first_step: int) -> tuple[int, int]:
        """Replace the easy negatives among those seen since the last check: numbers replaced and exhausted."""
        assert self.rule is not None
        bank = self.banks[name].newest
        row_B, similarity_BM = self._last_seen(name)
        self._seen[name] = []
        easy_BM = self.rule.easy(bank.starts(row_B), similarity_BM)
        row_B, easy_BM = row_B[easy_BM.any(1)], easy_BM[easy_BM.any(1)]
        leaving_BM = np.ones_like(easy_BM) if self.rule.by_window else easy_BM
        rank_BM = bank.next_ranks(row_B, leaving_BM, wrap=self.config.exhausted == "wrap")
        if self.rule.by_window:  # a whole window or none
            rank_BM[(rank_BM < 0).any(1)] = -1
        bank.replace(row_B, rank_BM, first_step=first_step)
        exhausted_BM = easy_BM & (rank_BM < 0)
        bank.end(row_B[exhausted_BM.any(1)])
        return int((rank_BM >= 0).sum()), int(exhausted_BM.sum())

    def _last_seen(self, name: str) -> tuple[np.ndarray, np.ndarray]:
        """Each row seen since the last check, once, with its last S."""
        empty = np.empty(0, dtype=np.int64), np.empty((0, self.banks[name].num_slots))
        row_B, similarity_BM = (np.concatenate(part) for part in zip(empty, *self._seen[name], strict=True))
        row_U, from_the_end = np.unique(row_B[::-1], return_index=True)
        return row_U, similarity_BM[::-1][from_the_end]

    def _is_due_by_the_clock(self, step: int) -> bool:
        every = self.config.remine.every
        return bool(every) and step % every == 0 and self._is_of_use(step)

    def _ended(self, step: int) -> list[str]:
        """Tasks of which so many lists have ended that they are ranked anew."""
        if self.config.exhausted != "remine" or not self._is_of_use(step):
            return []
        share, rows = self.config.remine.ended, {name: task.data.num_rows for name, task in self._tasks.items()}
        return [name for name, bank in self.banks.items() if bank.newest.num_ended > share * rows[name]]

    def _is_of_use(self, step: int) -> bool:
        """Whether a step is left that draws from a ranking made after this one."""
        return step + 1 + self.config.delay <= self._num_steps

    def _rank_anew(self, name: str, step: int, rerank: Rerank, metrics: dict[str, float]) -> None:
        """Every query of the task begins with the first window of a new ranking."""
        task, history = self._tasks[name], self.banks[name]
        candidates, num_rows = rerank(task, step), task.data.num_rows
        bank = NegativeBank(num_rows, candidates, history.num_slots)
        history.add(bank, first_step=step + 1 + self.config.delay, ranked_after=step)
        self._seen[name] = []
        metrics["queries_reranked"] += num_rows
        needed = candidates.offset + history.num_slots
        metrics["windows_unfilled"] += sum(
            int((candidates.count(np.arange(first, min(first + _ROWS, num_rows))) < needed).sum())
            for first in range(0, num_rows, _ROWS)
        )

    def rankings(self) -> set[int]:
        """After which steps the banks in use were ranked; 0: before the run."""
        return {active.ranked_after for history in self.banks.values() for active in history.banks}

    def state(self) -> dict[str, np.ndarray]:
        """Everything a checkpoint must keep, as arrays named TASK/FIELD and TASK/NUMBER-OF-BANK/FIELD."""
        arrays = {}
        for name, history in self.banks.items():
            arrays[f"{name}/first_step"] = np.array([active.first_step for active in history.banks])
            arrays[f"{name}/ranked_after"] = np.array([active.ranked_after for active in history.banks])
            for number, active in enumerate(history.banks):
                arrays |= {f"{name}/{number}/{key}": value for key, value in active.bank.state().items()}
            arrays[f"{name}/seen_row"], arrays[f"{name}/seen"] = self._last_seen(name)
        return arrays

    def load_state(self, arrays: Mapping[str, np.ndarray], reopen: Rerank) -> None:
        """Continue where `state` was taken; nothing to do for a checkpoint without arrays.

        reopen: what `rerank` gave for a task after a step, from disk.
        """
        if not arrays:
            return
        for name, history in self.banks.items():
            self._seen[name] = [(arrays[f"{name}/seen_row"], arrays[f"{name}/seen"])]
            steps = zip(arrays[f"{name}/first_step"].tolist(), arrays[f"{name}/ranked_after"].tolist(), strict=True)
            for number, (first_step, ranked_after) in enumerate(steps):
                bank, start = history.newest, f"{name}/{number}/"
                if ranked_after:
                    candidates = reopen(self._tasks[name], ranked_after)
                    bank = NegativeBank(self._tasks[name].data.num_rows, candidates, history.num_slots)
                    history.add(bank, first_step=first_step, ranked_after=ranked_after)
                bank.load_state({key.removeprefix(start): arrays[key] for key in arrays if key.startswith(start)})


def _mean(parts: Sequence[np.ndarray]) -> float:
    """Mean of all that is not NaN, 0 without any."""
    known = np.concatenate([part[~np.isnan(part)] for part in parts] or [np.empty(0)])
    return float(known.mean()) if len(known) else 0.0
