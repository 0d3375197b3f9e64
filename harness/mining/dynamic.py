"""Dynamic replacement: watch every negative's similarity, replace those that have become easy.

The similarities come from the loss that was computed anyway. Every rank sees the same gathered numbers and decides the
same: nothing is sent.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from harness.data.negatives import NegativeBank
from harness.data.task import Task
from harness.mining.config import MiningConfig
from harness.mining.rules import Rule
from harness.types import InfoNCEPart, StepPlan

METRICS = ("negative_similarity_start", "negatives_replaced", "negatives_exhausted")
_ROWS = 65_536  # looked at together


def idle_rule_message(config: MiningConfig, tasks: Sequence[Task], num_steps: int) -> str | None:
    """Why the rule cannot change what a run, or some of its tasks, trains on, with the way out; None if it can in all.

    A decision counts some steps later, a replaced negative when its query comes again; S0 needs a first use or a score.
    """
    rule = Rule.of(config)
    if rule is None:
        return None
    found = []
    if num_steps <= rule.interval + config.delay:
        found.append(
            f"its first decision, after step {rule.interval}, counts from step {rule.interval + 1 + config.delay} of "
            f"{num_steps} on; lower mining.interval or raise training.steps"
        )
    for task in tasks:
        if task.bank is None or not task.bank.num_slots:
            continue
        name, quota, num_rows = task.config.name, task.config.quota, task.data.num_rows
        if num_steps * quota <= num_rows:
            found.append(
                f"task {name}: no query comes twice in {num_steps} steps of {quota} of its {num_rows} rows; raise "
                f"training.steps above {num_rows // quota}"
            )
        elif config.start == "ranking" and not _has_scores(task.bank, num_rows):
            found.append(
                f"task {name}: its candidates have no scores for mining.start: ranking; set first_use, or make a bank "
                "with harness mine"
            )
    return f"mining.rule {config.rule} changes nothing ({'; '.join(found)})" if found else None


def _has_scores(bank: NegativeBank, num_rows: int) -> bool:
    blocks = (np.arange(first, min(first + _ROWS, num_rows)) for first in range(0, num_rows, _ROWS))
    return any(np.isfinite(bank.candidates.scores(row_B, bank.ranks(row_B))).any() for row_B in blocks)


class DynamicNegatives:
    """Watches the banks of a run's tasks. With rule `none` it does nothing and reports zeros."""

    def __init__(self, config: MiningConfig, tasks: Sequence[Task]) -> None:
        self.config, self.rule = config, Rule.of(config)
        self.banks = {task.config.name: task.bank for task in tasks if task.bank is not None and task.bank.num_slots}
        self._seen: dict[str, list[tuple[np.ndarray, np.ndarray]]] = {name: [] for name in self.banks}  # rows, S

    def observe(self, plan: StepPlan, similarity: Mapping[str, np.ndarray]) -> dict[str, float]:
        """Take the step's similarities [B, M] per task to each query's own negatives; returns this step's metrics.

        `negative_similarity_start` is the mean S0 over the step's watched negatives; the others count negatives.
        """
        metrics = dict.fromkeys(METRICS, 0.0)
        if self.rule is None:
            return metrics
        starts = [
            self._watch(part, similarity[part.task])
            for part in plan.parts
            if isinstance(part, InfoNCEPart) and part.task in self.banks
        ]
        filled = np.concatenate([start[~np.isnan(start)] for start in starts] or [np.empty(0)])
        metrics["negative_similarity_start"] = float(filled.mean()) if len(filled) else 0.0
        if plan.step % self.rule.interval == 0:
            for name in self.banks:
                replaced, exhausted = self._judge(name, plan.step)
                metrics["negatives_replaced"] += replaced
                metrics["negatives_exhausted"] += exhausted
        for bank in self.banks.values():
            bank.forget_before(plan.step)
        return metrics

    def _watch(self, part: InfoNCEPart, similarity_BM: np.ndarray) -> np.ndarray:
        """Remember S of the slots whose candidate is still the one decided on; returns their S0."""
        bank = self.banks[part.task]
        current_BM = (part.rank_BM == bank.ranks(part.row_B)) & (part.negative_BM >= 0)
        first_BM = similarity_BM
        if self.config.start == "ranking":
            first_BM = bank.candidates.scores(part.row_B, part.rank_BM)
        bank.start(part.row_B, first_BM, current_BM & ~np.isnan(first_BM))
        self._seen[part.task].append((part.row_B, np.where(current_BM, similarity_BM, np.nan)))
        return np.where(current_BM, bank.starts(part.row_B), np.nan)

    def _judge(self, name: str, step: int) -> tuple[int, int]:
        """Replace the easy negatives among those seen since the last check: numbers replaced and exhausted."""
        assert self.rule is not None
        bank = self.banks[name]
        row_B, similarity_BM = self._last_seen(name)
        self._seen[name] = []
        easy_BM = self.rule.easy(bank.starts(row_B), similarity_BM)
        row_B, easy_BM = row_B[easy_BM.any(1)], easy_BM[easy_BM.any(1)]
        leaving_BM = np.ones_like(easy_BM) if self.rule.by_window else easy_BM
        rank_BM = bank.next_ranks(row_B, leaving_BM, wrap=self.config.exhausted == "wrap")
        if self.rule.by_window:  # a whole window or none
            rank_BM[(rank_BM < 0).any(1)] = -1
        bank.replace(row_B, rank_BM, first_step=step + 1 + self.config.delay)
        return int((rank_BM >= 0).sum()), int((easy_BM & (rank_BM < 0)).sum())

    def _last_seen(self, name: str) -> tuple[np.ndarray, np.ndarray]:
        """Each row seen since the last check, once, with its last S."""
        empty = np.empty(0, dtype=np.int64), np.empty((0, self.banks[name].num_slots))
        row_B, similarity_BM = (np.concatenate(part) for part in zip(empty, *self._seen[name], strict=True))
        row_U, from_the_end = np.unique(row_B[::-1], return_index=True)
        return row_U, similarity_BM[::-1][from_the_end]

    def state(self) -> dict[str, np.ndarray]:
        """Everything a checkpoint must keep, as arrays named TASK/FIELD."""
        arrays = {f"{name}/{key}": value for name, bank in self.banks.items() for key, value in bank.state().items()}
        for name in self.banks:
            arrays[f"{name}/seen_row"], arrays[f"{name}/seen"] = self._last_seen(name)
        return arrays

    def load_state(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Continue where `state` was taken; nothing to do for a checkpoint without arrays."""
        if not arrays:
            return
        for name, bank in self.banks.items():
            own = {key.removeprefix(f"{name}/"): value for key, value in arrays.items() if key.startswith(f"{name}/")}
            bank.load_state(own)
            self._seen[name] = [(own["seen_row"], own["seen"])]
