"""`mining.check: upcoming`: score the negatives of queries that the plan says come next, up to a budget of texts."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from harness import comm
from harness.data.plan.draw import draw_examples
from harness.data.plan.task import Task, text_sources
from harness.data.table.index import TaskData
from harness.search.encode import Encode
from harness.types import Balance, TextRole


@dataclass(frozen=True, slots=True)
class _Coming:
    """Queries of one task that come, as text ids."""

    row_B: np.ndarray
    query_B: np.ndarray
    negative_BM: np.ndarray  # -1 padded, of the table `negative_source`
    negative_source: int


@dataclass(frozen=True, slots=True)
class UpcomingScores:
    """Queries of one task and the similarity of each to its negatives, NaN where it has none."""

    row_B: np.ndarray  # int64, ascending, each once
    similarity_BM: np.ndarray


class Upcoming:
    """Looks ahead from a step on; every rank calls it, and all get the same.

    encoder_of: encodes full texts (prompts included) as the task does, with the weights as they are. seed, balance:
    the plan's. budget: texts encoded per call, at most.
    """

    def __init__(
        self, tasks: Sequence[Task], encoder_of: Callable[[Task], Encode], *, seed: int, balance: Balance, budget: int
    ) -> None:
        self._tasks, self._encoder_of = tasks, encoder_of
        self._seed, self._balance, self._budget = seed, balance, budget

    def __call__(self, first_step: int, last_step: int) -> dict[str, UpcomingScores]:
        """The negatives in use at steps first_step … last_step, nearest first, as many as the budget holds."""
        sources = text_sources(self._tasks)
        outlooks = {}
        for index, coming in self._coming(first_step, last_step).items():
            task = self._tasks[index]
            row_B, first_B = np.unique(np.concatenate([part.row_B for part in coming]), return_index=True)
            query_B = np.concatenate([part.query_B for part in coming])[first_B]
            negative_BM = np.concatenate([part.negative_BM for part in coming])[first_B]
            texts = sources[coming[0].negative_source].data
            # Rank 0's numbers: another processor may add in another order, and a decision hang on it.
            similarity_BM = comm.broadcast_object(self._similarity(task, query_B, texts, negative_BM))
            outlooks[task.config.name] = UpcomingScores(row_B, similarity_BM)
        return outlooks

    def _coming(self, first_step: int, last_step: int) -> Mapping[int, list[_Coming]]:
        """Which queries of the tasks with negatives the next steps draw, until the budget is spent."""
        found: dict[int, list[_Coming]] = {}
        left = self._budget
        if not any(task.bank is not None and task.bank.num_slots for task in self._tasks):
            return found
        for step in range(first_step, last_step + 1):
            for draw in draw_examples(self._tasks, seed=self._seed, step=step, balance=self._balance):
                bank = self._tasks[draw.task].bank
                if bank is None or not bank.num_slots:
                    continue
                cost_B = np.cumsum(1 + (draw.negative_BM >= 0).sum(axis=1))  # a text met again is counted again
                fits = int(np.searchsorted(cost_B, left, side="right"))
                if fits:
                    queries = draw.row_B[:fits], draw.query_B[:fits], draw.negative_BM[:fits]
                    found.setdefault(draw.task, []).append(_Coming(*queries, draw.negative_source))
                    left -= int(cost_B[fits - 1])
                if fits < len(cost_B):
                    return found
        return found

    def _similarity(self, task: Task, query_B: np.ndarray, texts: TaskData, negative_BM: np.ndarray) -> np.ndarray:
        query_BD = self._embed(task, task.data, query_B, "query")
        similarity_BM = np.full(negative_BM.shape, np.nan)
        filled_BM = negative_BM >= 0
        if filled_BM.any():
            negative_ED = self._embed(task, texts, negative_BM[filled_BM], "document")
            similarity_BM[filled_BM] = np.einsum("ed,ed->e", query_BD[np.nonzero(filled_BM)[0]], negative_ED)
        return similarity_BM

    def _embed(self, task: Task, texts: TaskData, id_N: np.ndarray, role: TextRole) -> np.ndarray:
        """Unit rows [N, D]; a row that is zero or not finite gives NaN, and the loss will say so."""
        _, first_U, inverse_N = np.unique(texts.token_hash_G[id_N], return_index=True, return_inverse=True)
        row_UD = self._encoder_of(task)(task.full_texts(texts, id_N[first_U], role), role).astype(np.float64)
        with np.errstate(invalid="ignore", divide="ignore"):
            return (row_UD / np.linalg.norm(row_UD, axis=1, keepdims=True))[inverse_N]
