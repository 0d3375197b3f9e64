"""A run of dynamic negatives without texts and without a model: the test gives the similarities of every step."""

from __future__ import annotations

import io
from dataclasses import dataclass, field, replace
from types import SimpleNamespace

import numpy as np

from harness.data.bank.history import BankHistory
from harness.data.bank.negatives import NegativeBank
from harness.mining.config import MiningConfig, build_rule
from harness.mining.dynamic import DynamicNegatives
from harness.mining.judging.slots import Standing
from harness.mining.upcoming import UpcomingScores
from harness.types import QueryPart, RaggedLists, StepPlan, StepTexts

NO_TEXTS = StepTexts(np.empty(0, np.int32), np.empty(0, np.int64), np.empty(0, np.int64))

METRICS = (
    "negative_similarity_watched",
    "negative_similarity_start",
    "negatives_replaced",
    "negatives_exhausted",
    "queries_reranked",
    "windows_unfilled",
)


@dataclass
class RankedLists:
    """Implements `negatives.Candidates`. Row r has counts[r] candidates; the text at rank k is first + 1000 r + k."""

    counts: list[int]
    offset: int = 0
    score_RC: np.ndarray | None = None
    texts: object = field(default_factory=object)
    first: int = 0

    def count(self, row_B: np.ndarray) -> np.ndarray:
        return np.array(self.counts, dtype=np.int64)[row_B]

    def text_ids(self, row_B: np.ndarray, rank_BM: np.ndarray) -> np.ndarray:
        return np.where(rank_BM < self.count(row_B)[:, None], self.first + 1000 * row_B[:, None] + rank_BM, -1)

    def scores(self, row_B: np.ndarray, rank_BM: np.ndarray) -> np.ndarray:
        if self.score_RC is None:
            return np.full(rank_BM.shape, np.nan, dtype=np.float32)
        return self.score_RC[row_B[:, None], np.minimum(rank_BM, self.score_RC.shape[1] - 1)].astype(np.float32)


class GivenRankings:
    """Implements `dynamic.Rerank`. In the ranking made after step t, `first` is 100 t."""

    def __init__(self, run: Run) -> None:
        self.run = run

    def __call__(self, tasks: list, step: int) -> dict[str, RankedLists]:
        self.run.reranked.append(step)
        return {task.config.name: self.reopen(task, step) for task in tasks}

    def reopen(self, task: object, step: int) -> RankedLists:
        return replace(self.run.candidates, first=100 * step)

    def keep(self, steps: set[int]) -> None:
        self.run.kept.append(steps)


class Run:
    """A run of one task: steps are planned from the bank and observed, as in the trainer.

    coming: row → similarities that a look ahead returns. reranked: the steps after which candidates were ranked anew.
    kept: for each removal of old rankings, the steps of those that stayed.
    """

    def __init__(
        self, counts: list[int], num_slots: int, *, offset: int = 0, score_RC=None, num_steps: int = 1_000, **mining
    ) -> None:
        self.candidates = RankedLists(counts, offset, score_RC)
        self.num_slots, self.num_steps, self.config = num_slots, num_steps, MiningConfig(**mining)
        self.coming: dict[int, list[float]] = {}
        self.looked_ahead: list[tuple[int, int]] = []
        self.reranked: list[int] = []
        self.kept: list[set[int]] = []
        self.said: list[str] = []
        self._begin()

    def _begin(self) -> None:
        num_rows = len(self.candidates.counts)
        self.history = BankHistory(NegativeBank(num_rows, self.candidates, self.num_slots))
        config, data = SimpleNamespace(name="faq"), SimpleNamespace(num_rows=num_rows)
        task = SimpleNamespace(config=config, bank=self.history, data=data)
        self.negatives = DynamicNegatives(
            self.config,
            [task],
            self.num_steps,
            look_ahead=self.look_ahead,
            rerank=GivenRankings(self),
            say=self.said.append,
        )

    @property
    def bank(self) -> NegativeBank:
        return self.history.newest

    def look_ahead(self, first_step: int, last_step: int) -> dict[str, UpcomingScores]:
        self.looked_ahead.append((first_step, last_step))
        rows = sorted(self.coming)
        return {"faq": UpcomingScores(np.array(rows), np.array([self.coming[row] for row in rows]))} if rows else {}

    def reload(self) -> None:
        """Replace the bank and the decisions by new objects that load the saved state, as from a checkpoint."""
        file = io.BytesIO()
        np.savez(file, **self.negatives.state())
        file.seek(0)
        self._begin()
        self.negatives.load_state(dict(np.load(file)))

    def plan(self, step: int, rows: list[int]) -> StepPlan:
        row_B = np.array(rows, dtype=np.int64)
        bank = self.history.at(step)
        rank_BM = bank.ranks(row_B, step)
        negative_BM = bank.candidates.text_ids(row_B, rank_BM)
        none = np.full((len(rows), 0), -1)
        part = QueryPart(
            "faq", row_B, row_B, np.arange(9), row_B[:, None], negative_BM, rank_BM, RaggedLists.of_padded(none), False
        )
        return StepPlan(step, NO_TEXTS, (part,) if rows else ())

    def step(
        self, step: int, similarity: dict[int, list[float]], standing: dict[int, list[tuple[float, bool]]] | None = None
    ) -> dict[str, float]:
        """Observe a step with these rows and similarities. Empty slots get 0, as in the output of the loss.

        standing: row → (quantile, whether it is above the positive) of each negative, for a rule that compares.
        """
        plan = self.plan(step, list(similarity))
        found = {}
        for part in plan.parts:
            given_BM = np.array(list(similarity.values()), dtype=np.float32).astype(np.float64)
            found["faq"] = np.where(part.negative_BM >= 0, given_BM, 0.0)
        if standing is None or not similarity:
            return self.negatives.observe(plan, found)
        given = np.array([standing[row] for row in similarity])
        return self.negatives.observe(plan, found, {"faq": Standing(given[:, :, 0], given[:, :, 1] > 0)})

    def ranks(self, step: int, row: int = 0) -> list[int]:
        return self.history.at(step).ranks(np.array([row]), step)[0].tolist()

    def texts(self, step: int, row: int = 0) -> list[int]:
        return self.plan(step, [row]).parts[0].negative_BM[0].tolist()

    def start(self, row: int = 0) -> list[float]:
        return self.bank.starts(np.array([row]))[0].tolist()


def replaced(metrics: dict[str, float]) -> tuple[float, float]:
    """Return the number of replaced negatives, and of those that no candidate was left to replace."""
    return metrics["negatives_replaced"], metrics["negatives_exhausted"]


def easy(start: list, similarity: list, **settings) -> list:
    """Return the negatives that a rule with these `mining` settings judges easy. Item r of a list is row r."""
    rule = build_rule(MiningConfig(**settings))
    assert rule is not None
    start_BM, similarity_BM = np.array(start, dtype=np.float32), np.array(similarity, dtype=np.float64)
    return rule.easy(np.arange(len(start)), start_BM, similarity_BM).tolist()
