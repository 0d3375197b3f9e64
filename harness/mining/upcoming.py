"""`mining.check: upcoming`: computes, with the current weights, the similarities that the next steps will use."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from harness import comm
from harness.data.plan.draw import draw_examples
from harness.data.plan.task import Task, text_sources
from harness.data.table.index import TaskData
from harness.search.encode import Encode
from harness.types import Balance, TextRole


@dataclass(frozen=True, slots=True)
class UpcomingScores:
    """Some queries of one task, and the similarity of each query to its negatives (NaN where a slot is empty)."""

    row_B: np.ndarray  # int64, distinct rows of the task's data, ascending
    similarity_BM: np.ndarray


@dataclass(frozen=True, slots=True)
class _UpcomingQueries:
    """Some queries of one task in one later step, with their negatives, as text ids."""

    task: int  # position in the recipe's list of tasks
    row_B: np.ndarray
    query_B: np.ndarray
    negative_BM: np.ndarray  # text ids of the table `negative_source`, -1 padded
    negative_source: int  # position among `text_sources`


class Upcoming:
    """Scores the queries of the steps that follow. Every rank must call it; all ranks get equal scores.

    encoder_of: an encoder with the current weights for a task's texts, which already start with their prompts. seed,
    balance: those of the plan. budget: the largest number of texts to encode per call.
    """

    def __init__(
        self, tasks: Sequence[Task], encoder_of: Callable[[Task], Encode], *, seed: int, balance: Balance, budget: int
    ) -> None:
        self._tasks, self._encoder_of = tasks, encoder_of
        self._seed, self._balance, self._budget = seed, balance, budget

    def __call__(self, first_step: int, last_step: int) -> dict[str, UpcomingScores]:
        """Scores of the queries of the steps first_step … last_step, in order, as many as the budget allows."""
        queries_of_task: dict[int, list[_UpcomingQueries]] = {}
        for queries in self._within_budget(first_step, last_step):
            queries_of_task.setdefault(queries.task, []).append(queries)
        return {self._tasks[task].config.name: self._scores(queries) for task, queries in queries_of_task.items()}

    def _within_budget(self, first_step: int, last_step: int) -> Iterator[_UpcomingQueries]:
        """Yields the queries that the steps draw from tasks with ranked negatives, until the budget is used up."""
        budget_left = self._budget
        if not any(map(_has_negatives, self._tasks)):
            return
        for step in range(first_step, last_step + 1):
            for draw in draw_examples(self._tasks, seed=self._seed, step=step, balance=self._balance):
                if not _has_negatives(self._tasks[draw.task]):
                    continue
                # A text that several queries use is encoded once, but counted for each of them.
                cost_B = np.cumsum(1 + (draw.negative_BM >= 0).sum(axis=1))
                count = int(np.searchsorted(cost_B, budget_left, side="right"))
                if count:
                    arrays = draw.row_B[:count], draw.query_B[:count], draw.negative_BM[:count]
                    yield _UpcomingQueries(draw.task, *arrays, draw.negative_source)
                    budget_left -= int(cost_B[count - 1])
                if count < len(cost_B):
                    return

    def _scores(self, parts: Sequence[_UpcomingQueries]) -> UpcomingScores:
        """The scores of the distinct queries of one task."""
        task, texts = self._tasks[parts[0].task], text_sources(self._tasks)[parts[0].negative_source].data
        row_B, first_B = np.unique(np.concatenate([part.row_B for part in parts]), return_index=True)
        query_B = np.concatenate([part.query_B for part in parts])[first_B]
        negative_BM = np.concatenate([part.negative_BM for part in parts])[first_B]
        # All ranks use rank 0's similarities: another processor may round differently, and so decide differently.
        similarity_BM = comm.broadcast_object(self._similarity(task, query_B, texts, negative_BM))
        return UpcomingScores(row_B, similarity_BM)

    def _similarity(self, task: Task, query_B: np.ndarray, texts: TaskData, negative_BM: np.ndarray) -> np.ndarray:
        query_BD = self._embed(task, task.data, query_B, "query")
        similarity_BM = np.full(negative_BM.shape, np.nan)
        filled_BM = negative_BM >= 0
        if filled_BM.any():
            negative_ED = self._embed(task, texts, negative_BM[filled_BM], "document")
            similarity_BM[filled_BM] = np.einsum("ed,ed->e", query_BD[np.nonzero(filled_BM)[0]], negative_ED)
        return similarity_BM

    def _embed(self, task: Task, texts: TaskData, id_N: np.ndarray, role: TextRole) -> np.ndarray:
        """Unit rows [N, D]. An embedding that is zero or not finite gives NaN, which the loss reports as an error."""
        _, first_U, inverse_N = np.unique(texts.token_hash_G[id_N], return_index=True, return_inverse=True)
        row_UD = self._encoder_of(task)(task.full_texts(texts, id_N[first_U], role), role).astype(np.float64)
        with np.errstate(invalid="ignore", divide="ignore"):
            return (row_UD / np.linalg.norm(row_UD, axis=1, keepdims=True))[inverse_N]


def _has_negatives(task: Task) -> bool:
    return task.bank is not None and task.bank.num_slots > 0
