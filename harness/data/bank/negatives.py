"""Stage 3: the negative bank. Per query the ranked candidates (read-only) and which of them are in use (state).

A training file's negative lists are ranked candidates already; `harness mine` makes others. A window of slots is in
use: slot m begins with rank offset + m. The rules of `harness.mining` move slots on to later ranks; the plan only
reads.

State is kept of the rows that have been used: ten million queries cost four bytes each and what training has touched.
A replacement decided after one step counts for plans from a later step on, so that a plan made ahead is never wrong.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from harness.data.table.index import TaskData


class Candidates(Protocol):
    """Ranked candidates of every row of a task, hardest first."""

    @property
    def texts(self) -> TaskData:
        """The text table whose ids they are."""
        ...

    @property
    def offset(self) -> int:
        """Rank of the first window's first slot: what stands before is too likely a false negative."""
        ...

    def count(self, row_B: np.ndarray) -> np.ndarray:
        """Number of candidates of each row, int64 [B]."""
        ...

    def text_ids(self, row_B: np.ndarray, rank_BM: np.ndarray) -> np.ndarray:
        """Ids [B, M] in `texts`, -1 for a rank that the row does not have."""
        ...

    def scores(self, row_B: np.ndarray, rank_BM: np.ndarray) -> np.ndarray:
        """Similarities by the model that ranked them, float32 [B, M], NaN where there is none."""
        ...


@dataclass(frozen=True, slots=True)
class ListedCandidates:
    """The negatives that stand in the task's own rows, in their order."""

    texts: TaskData
    offset: int = 0

    def count(self, row_B: np.ndarray) -> np.ndarray:
        return (self.texts.row_start_R1[row_B + 1] - self._first(row_B)).astype(np.int64)

    def text_ids(self, row_B: np.ndarray, rank_BM: np.ndarray) -> np.ndarray:
        text_BM = self._first(row_B)[:, None] + rank_BM
        return np.where(rank_BM < self.count(row_B)[:, None], text_BM, -1).astype(np.int64)

    def scores(self, row_B: np.ndarray, rank_BM: np.ndarray) -> np.ndarray:
        text_BM, score_G = self.text_ids(row_B, rank_BM), self.texts.document_score_G
        if score_G is None:
            return np.full(text_BM.shape, np.nan, dtype=np.float32)
        return np.where(text_BM >= 0, score_G[np.maximum(text_BM, 0)], np.nan).astype(np.float32)

    def _first(self, row_B: np.ndarray) -> np.ndarray:
        return self.texts.row_start_R1[row_B] + 1 + self.texts.num_positives_R[row_B]


@dataclass(frozen=True, slots=True)
class PendingReplacement:
    """A decision that steps before `first_step` do not see: the rows it changed, ascending, and their ranks before."""

    first_step: int
    row_U: np.ndarray
    rank_UM: np.ndarray

    def put_back(self, row_B: np.ndarray, rank_BM: np.ndarray) -> None:
        place_B = np.minimum(np.searchsorted(self.row_U, row_B), len(self.row_U) - 1)
        changed_B = self.row_U[place_B] == row_B
        rank_BM[changed_B] = self.rank_UM[place_B[changed_B]]


class NegativeBank:
    """One task's candidates; per row and slot the rank in use and S0, the similarity the negative started with."""

    def __init__(self, num_rows: int, candidates: Candidates, num_slots: int) -> None:
        self.candidates, self.num_slots = candidates, num_slots
        first_M = candidates.offset + np.arange(num_slots)
        entry = np.dtype(
            [
                ("row", np.int32),
                ("rank", np.int32, (num_slots,)),  # in use
                ("start", np.float32, (num_slots,)),  # S0, NaN: not known yet
                ("next", np.int32),  # the rank to take up next
                ("replaced", np.int32),  # how often
                ("ended", np.bool_),  # whether a negative found no candidate to take its place
            ]
        )
        # Entry 0 is that of all rows without one of their own.
        none_M, next_rank = np.full(num_slots, np.nan), candidates.offset + num_slots
        self._entry_E = np.array([(-1, first_M, none_M, next_rank, 0, False)], entry)
        self._num_entries, self.num_ended = 1, 0
        self._place_R = np.zeros(num_rows, dtype=np.int32)
        self._late: tuple[PendingReplacement, ...] = ()  # in the order of their steps

    def ranks(self, row_B: np.ndarray, step: int | None = None) -> np.ndarray:
        """Candidate ranks in use [B, M]: as step `step` sees them, or as last decided.

        The plan of the next step calls this while a decision is made: it reads in the reverse order of the writes.
        """
        place_B = self._place_R[row_B]
        rank_BM = self._entry_E["rank"][place_B].astype(np.int64)
        for late in reversed(self._late):
            if step is not None and step < late.first_step:
                late.put_back(row_B, rank_BM)
        return rank_BM

    def start(self, row_B: np.ndarray, similarity_BM: np.ndarray, valid_BM: np.ndarray) -> None:
        """Take `similarity` as S0 of the valid slots that have none yet."""
        place_B = self._own_entries(row_B)
        start_BM = self._entry_E["start"][place_B]
        self._entry_E["start"][place_B] = np.where(np.isnan(start_BM) & valid_BM, similarity_BM, start_BM)

    def starts(self, row_B: np.ndarray) -> np.ndarray:
        """S0 [B, M], NaN where there is none yet."""
        return self._entry_E["start"][self._place_R[row_B]]

    def next_ranks(self, row_B: np.ndarray, leaving_BM: np.ndarray, *, wrap: bool) -> np.ndarray:
        """The ranks [B, M] that the leaving slots move on to, in order; -1 for the others and where a list has ended.

        wrap: begin again at the offset, passing over what is in use.
        """
        first, size_B1 = self.candidates.offset, self.candidates.count(row_B)[:, None]
        ahead_X = np.arange(2 * self.num_slots)  # at most M of them are in use
        rank_BX = self._entry_E["next"][self._place_R[row_B], None] + ahead_X
        free_BX = rank_BX < size_B1
        if wrap:
            lap_B1 = np.maximum(size_B1 - first, 0)
            free_BX = ahead_X < lap_B1
            rank_BX = first + (rank_BX - first) % np.maximum(lap_B1, 1)
            free_BX &= (rank_BX[:, :, None] != self.ranks(row_B)[:, None, :]).all(2)
        free_first_BM = np.argsort(~free_BX, axis=1, kind="stable")[:, : self.num_slots]
        next_BM = np.where(
            np.take_along_axis(free_BX, free_first_BM, 1), np.take_along_axis(rank_BX, free_first_BM, 1), -1
        )
        turn_BM = np.maximum(np.cumsum(leaving_BM, axis=1) - 1, 0)
        return np.where(leaving_BM, np.take_along_axis(next_BM, turn_BM, 1), -1)

    def replace(self, row_B: np.ndarray, rank_BM: np.ndarray, *, first_step: int) -> None:
        """Put the candidates of ranks >= 0 into their slots, for steps from `first_step` on; their S0 is not known yet.

        `row` ascending, each once; `rank` from `next_ranks`.
        """
        changed_B = (rank_BM >= 0).any(1)
        row_B, rank_BM = row_B[changed_B], rank_BM[changed_B]
        if not len(row_B):
            return
        place_B, new_BM = self._own_entries(row_B), rank_BM >= 0
        before_BM = self.ranks(row_B)
        self._late = (*self._late, PendingReplacement(first_step, row_B, before_BM))
        self._entry_E["rank"][place_B] = np.where(new_BM, rank_BM, before_BM)
        self._entry_E["start"][place_B] = np.where(new_BM, np.nan, self._entry_E["start"][place_B])
        last_B = self.num_slots - 1 - np.argmax(new_BM[:, ::-1], axis=1)
        self._entry_E["next"][place_B] = rank_BM[np.arange(len(row_B)), last_B] + 1
        self._entry_E["replaced"][place_B] += 1

    def end(self, row_B: np.ndarray) -> None:
        """Note that these rows' lists have ended; `num_ended` counts such rows. `row`: each once."""
        place_B = self._own_entries(row_B)
        self.num_ended += int((~self._entry_E["ended"][place_B]).sum())
        self._entry_E["ended"][place_B] = True

    def forget_before(self, step: int) -> None:
        """Drop what only steps before `step` would still ask for."""
        self._late = tuple(late for late in self._late if late.first_step > step)

    def num_replaced(self, row_B: np.ndarray) -> np.ndarray:
        """How often each row's slots were replaced."""
        return self._entry_E["replaced"][self._place_R[row_B]]

    def state(self) -> dict[str, np.ndarray]:
        """The entries of the rows used so far and the decisions that wait to be seen, for a checkpoint."""
        entries = self._entry_E[1 : self._num_entries]
        none = np.empty(0, dtype=np.int64)
        return {
            **{name: entries[name].copy() for name in entries.dtype.names or ()},
            "late_step": np.concatenate([none, *(np.full(len(late.row_U), late.first_step) for late in self._late)]),
            "late_row": np.concatenate([none, *(late.row_U for late in self._late)]),
            "late_rank": np.concatenate([none.reshape(0, self.num_slots), *(late.rank_UM for late in self._late)]),
        }

    def load_state(self, state: dict[str, np.ndarray]) -> None:
        """Continue from what `state` gave; the bank must be as new."""
        self._add_entries(state["row"])
        for name in self._entry_E.dtype.names or ():
            self._entry_E[name][1 : self._num_entries] = state[name]
        self.num_ended = int(state["ended"].sum())
        for step in np.unique(state["late_step"]).tolist():
            chosen = state["late_step"] == step
            self._late = (*self._late, PendingReplacement(step, state["late_row"][chosen], state["late_rank"][chosen]))

    def _own_entries(self, row_B: np.ndarray) -> np.ndarray:
        """Where the rows' entries are [B]; rows without one get it."""
        self._add_entries(np.unique(row_B[self._place_R[row_B] == 0]))
        return self._place_R[row_B]

    def _add_entries(self, row_U: np.ndarray) -> None:
        start, stop = self._num_entries, self._num_entries + len(row_U)
        if stop > len(self._entry_E):
            grown_E = np.empty(max(stop, 2 * len(self._entry_E)), self._entry_E.dtype)
            grown_E[:start] = self._entry_E[:start]
            self._entry_E = grown_E
        self._entry_E[start:stop] = self._entry_E[0]
        self._entry_E["row"][start:stop] = row_U
        self._num_entries = stop
        self._place_R[row_U] = np.arange(start, stop)
