"""Manages the negatives of one task: records their similarities and replaces the negatives that have become easy."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from harness.data.bank.history import BankHistory
from harness.data.bank.negatives import Candidates, NegativeBank
from harness.data.plan.task import Task
from harness.mining.config import MiningConfig, build_rule
from harness.mining.judging.slots import Judgement, Slots, Standing
from harness.mining.judging.successors import harder_ranks
from harness.types import QueryPart

_ROWS_PER_BLOCK = 65_536  # number of rows whose candidates are counted at a time


@dataclass(frozen=True, slots=True)
class Replaced:
    """How many negatives of a task a judgement has replaced, and why."""

    replaced: int  # for any reason
    too_hard: int  # of these: replaced as likely unlabelled positives
    by_score: int  # of these: by a candidate whose fresh score is known
    exhausted: int  # to be replaced, but no candidate is left; with fresh scores: none that is harder


class TaskNegatives:
    """The banks of a task, its replacement rule, and the similarities seen since the last judgement.

    rule: None if negatives are never replaced. `ReplacementRule` defines S and S0.
    """

    def __init__(self, config: MiningConfig, task: Task, banks: BankHistory) -> None:
        self._config, self.task, self.banks = config, task, banks
        self.rule = build_rule(config)
        self._keep_memory()
        self._seen: list[tuple[np.ndarray, np.ndarray]] = []  # rows and their S, since the last judgement

    def watch(
        self, part: QueryPart, similarity_BM: np.ndarray, step: int, standing: Standing | None = None
    ) -> np.ndarray:
        """Record the similarities of a step's negatives as S; returns their S0 [B, M].

        similarity_BM: NaN for a negative that the loss did not use. standing: of the step's negatives, for a rule that
        compares. S0 is NaN for an empty slot, and for a negative that has been replaced after the step was planned.
        """
        bank = self.banks.newest
        if self.banks.at(step) is not bank:  # planned before the candidates were ranked anew
            return np.full(part.rank_BM.shape, np.nan)
        is_in_use_BM = part.rank_BM == bank.ranks(part.row_B)
        if self._config.check == "seen":
            self.take(part.row_B, np.where(is_in_use_BM, similarity_BM, np.nan))
        if standing is not None and self.rule is not None:
            memory = self.rule.remember(bank.memory(part.row_B), standing)
            bank.remember(part.row_B, memory, is_in_use_BM & (part.negative_BM >= 0))
        return np.where(is_in_use_BM & (part.negative_BM >= 0), self._starts(part.row_B), np.nan)

    def _starts(self, row_B: np.ndarray) -> np.ndarray:
        """S0 [B, M]. A score of the ranking is known before the first judgement notes it."""
        bank, start_BM = self.banks.newest, self.banks.newest.starts(row_B)
        if not self._starts_at_the_ranking:
            return start_BM
        return np.where(np.isnan(start_BM), bank.candidates.scores(row_B, bank.ranks(row_B)), start_BM)

    @property
    def _starts_at_the_ranking(self) -> bool:
        """Whether S0 is a candidate's score. That of a later ranking cannot be, as the starting weights did not
        compute it."""
        return self._config.start == "ranking" and not self.banks.banks[-1].ranked_after

    def take(self, row_B: np.ndarray, similarity_BM: np.ndarray) -> None:
        """Record S of each query's negatives (NaN where unknown), and set S0 of the negatives that have none yet."""
        bank, start_BM = self.banks.newest, similarity_BM
        if self._starts_at_the_ranking:
            start_BM = bank.candidates.scores(row_B, bank.ranks(row_B))
        bank.start(row_B, start_BM, ~np.isnan(similarity_BM) & ~np.isnan(start_BM))
        self._seen.append((row_B, similarity_BM))

    def judge(self, step: int, first_step: int) -> Replaced:
        """Replace the negatives that the rule finds easy or too hard, of the queries seen since the last judgement.

        step: the step that is finished. first_step: the first one that uses the new negatives.
        """
        assert self.rule is not None
        bank = self.banks.newest
        row_B, similarity_BM = self._last_seen()
        self._seen = []
        judgement = self.rule.judge(Slots(row_B, bank.starts(row_B), similarity_BM, bank.memory(row_B)))
        leaves_B = judgement.leaving_BM.any(axis=1)
        row_B, similarity_BM = row_B[leaves_B], similarity_BM[leaves_B]
        judgement = Judgement(judgement.easy_BM[leaves_B], judgement.too_hard_BM[leaves_B])
        wrap = self._config.exhausted == "wrap"
        rank_BM = self.rule.next_ranks(judgement.leaving_BM, lambda fill_BM: bank.next_ranks(row_B, fill_BM, wrap=wrap))
        by_score = self._has_fresh_scores(step)
        if by_score:
            rank_BM = harder_ranks(bank, row_B, rank_BM, similarity_BM, judgement)
        bank.replace(row_B, rank_BM, first_step=first_step)
        is_replaced_BM = rank_BM >= 0
        exhausted_BM = judgement.leaving_BM & ~is_replaced_BM
        bank.end(row_B[exhausted_BM.any(axis=1)])
        replaced = int(is_replaced_BM.sum())
        too_hard = int((is_replaced_BM & judgement.too_hard_BM).sum())
        return Replaced(replaced, too_hard, replaced if by_score else 0, int(exhausted_BM.sum()))

    def _has_fresh_scores(self, step: int) -> bool:
        """Whether successors are chosen by score now: the scores are the run's own, and not too old."""
        age = step - self.banks.banks[-1].ranked_after
        return self._config.successor == "score" and age <= self._config.fresh_steps

    def has_run_out(self) -> bool:
        """Whether more queries than `mining.remine.ended` allows have no further candidate."""
        return self.banks.newest.num_ended > self._config.remine.ended * self.task.data.num_rows

    def begin(self, candidates: Candidates) -> int:
        """Take the candidates that the starting model has ranked, in place of those in the data, before any step.

        Returns the number of queries with fewer candidates than slots.
        """
        self.banks.begin(NegativeBank(self.task.data.num_rows, candidates, self.banks.num_slots))
        self._keep_memory()
        return num_rows_with_fewer(candidates, self.task.data.num_rows, candidates.offset + self.banks.num_slots)

    def begin_ranking(self, candidates: Candidates, *, first_step: int, ranked_after: int) -> int:
        """Let every query start with the first negatives of a new ranking, for steps from `first_step` on.

        S, S0 and the state of the rule are reset. Returns the number of queries with fewer candidates than slots.
        """
        self.rule, self._seen = build_rule(self._config), []
        self._follow(candidates, first_step, ranked_after)
        return num_rows_with_fewer(candidates, self.task.data.num_rows, candidates.offset + self.banks.num_slots)

    def state(self) -> dict[str, np.ndarray]:
        """The state to store in a checkpoint: arrays named FIELD, NUMBER/FIELD (for each bank) or rule/FIELD."""
        arrays = {
            "first_step": np.array([active.first_step for active in self.banks.banks]),
            "ranked_after": np.array([active.ranked_after for active in self.banks.banks]),
        }
        for number, active in enumerate(self.banks.banks):
            arrays |= {f"{number}/{key}": value for key, value in active.bank.state().items()}
        arrays["seen_row"], arrays["seen"] = self._last_seen()
        rule_state = {} if self.rule is None else self.rule.state()
        return arrays | {f"rule/{key}": value for key, value in rule_state.items()}

    def load_state(self, arrays: Mapping[str, np.ndarray], candidates_after: Mapping[int, Candidates]) -> None:
        """Restore a result of `state()`. candidates_after: the step after which a ranking was made → its candidates."""
        self._seen = [(arrays["seen_row"], arrays["seen"])]
        steps = zip(arrays["first_step"].tolist(), arrays["ranked_after"].tolist(), strict=True)
        for number, (first_step, ranked_after) in enumerate(steps):
            if ranked_after:
                self._follow(candidates_after[ranked_after], first_step, ranked_after)
            self.banks.newest.load_state(below(f"{number}/", arrays))
        if self.rule is not None:
            self.rule.load_state(below("rule/", arrays))

    def _follow(self, candidates: Candidates, first_step: int, ranked_after: int) -> None:
        bank = NegativeBank(self.task.data.num_rows, candidates, self.banks.num_slots)
        self.banks.add(bank, first_step=first_step, ranked_after=ranked_after)
        self._keep_memory()

    def _keep_memory(self) -> None:
        """Let the newest bank keep what the rule remembers of each negative."""
        if self.rule is not None and self.rule.memory:
            self.banks.newest.keep(self.rule.memory)

    def _last_seen(self) -> tuple[np.ndarray, np.ndarray]:
        """The distinct rows seen since the last judgement, ascending, and their latest S."""
        none = np.empty(0, dtype=np.int64), np.empty((0, self.banks.num_slots))
        row_B, similarity_BM = (np.concatenate(arrays) for arrays in zip(none, *self._seen, strict=True))
        row_U, from_the_end_U = np.unique(row_B[::-1], return_index=True)
        return row_U, similarity_BM[::-1][from_the_end_U]


def below(start: str, arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The arrays whose names begin with `start`; the names in the result do not contain `start`."""
    return {name.removeprefix(start): array for name, array in arrays.items() if name.startswith(start)}


def num_rows_with_fewer(candidates: Candidates, num_rows: int, needed: int) -> int:
    """The number of rows of a data set that have fewer than `needed` candidates."""
    return sum(int((candidates.count(row_B) < needed).sum()) for row_B in blocks_of_rows(num_rows))


def blocks_of_rows(num_rows: int) -> Iterator[np.ndarray]:
    """Yields the numbers 0 … num_rows - 1 in blocks, so that a loop over all rows needs little memory."""
    for first in range(0, num_rows, _ROWS_PER_BLOCK):
        yield np.arange(first, min(first + _ROWS_PER_BLOCK, num_rows))
