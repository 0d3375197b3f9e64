"""Holds the negatives of every query: its ranked candidates, and which of the candidates are in use.

The ranked candidates never change. They are the negative lists of a training file, or `harness mine` ranked them. Each
query uses a window of M slots, with one candidate in each slot. Slot m starts with the candidate of rank offset + m.
The rules of `harness.mining` replace the candidate of a slot by one of a later rank. The plan only reads this state.

A row costs four bytes until it is used; only used rows have an entry with more state. A replacement takes effect some
steps after the step that decided it, so that plans which were made ahead of their step stay correct.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from harness.data.table.index import TaskData


class Candidates(Protocol):
    """The ranked candidates of every row of a task, most similar first."""

    @property
    def texts(self) -> TaskData:
        """The text table that the candidates' text ids refer to."""
        ...

    @property
    def offset(self) -> int:
        """Rank of the first slot at the start. Lower ranks are skipped: they are too likely to be false negatives."""
        ...

    def count(self, row_B: np.ndarray) -> np.ndarray:
        """Number of candidates of each row, int64 [B]."""
        ...

    def text_ids(self, row_B: np.ndarray, rank_BM: np.ndarray) -> np.ndarray:
        """Text ids [B, M] in the table `texts`; -1 if the row has no candidate of this rank."""
        ...

    def scores(self, row_B: np.ndarray, rank_BM: np.ndarray) -> np.ndarray:
        """Similarities by the model that ranked the candidates, float32 [B, M]; NaN where there is no score."""
        ...


@dataclass(frozen=True, slots=True)
class ListedCandidates:
    """The negatives listed in the task's own rows; their order in the file is their rank."""

    texts: TaskData
    offset: int = 0

    def count(self, row_B: np.ndarray) -> np.ndarray:
        return (self.texts.row_start_R1[row_B + 1] - self._first_negative(row_B)).astype(np.int64)

    def text_ids(self, row_B: np.ndarray, rank_BM: np.ndarray) -> np.ndarray:
        text_BM = self._first_negative(row_B)[:, None] + rank_BM
        return np.where(rank_BM < self.count(row_B)[:, None], text_BM, -1).astype(np.int64)

    def scores(self, row_B: np.ndarray, rank_BM: np.ndarray) -> np.ndarray:
        text_BM, score_G = self.text_ids(row_B, rank_BM), self.texts.document_score_G
        if score_G is None:
            return np.full(text_BM.shape, np.nan, dtype=np.float32)
        return np.where(text_BM >= 0, score_G[np.maximum(text_BM, 0)], np.nan).astype(np.float32)

    def _first_negative(self, row_B: np.ndarray) -> np.ndarray:
        return self.texts.row_start_R1[row_B] + 1 + self.texts.num_positives_R[row_B]


@dataclass(frozen=True, slots=True)
class PendingReplacement:
    """A replacement that takes effect at `first_step`, and the ranks that earlier steps use."""

    first_step: int
    row_U: np.ndarray  # the rows whose ranks changed, ascending
    earlier_rank_UM: np.ndarray  # the ranks of these rows before the replacement

    def undo(self, row_B: np.ndarray, rank_BM: np.ndarray) -> None:
        """In `rank_BM`, which holds the ranks of `row_B`, put back the ranks from before the replacement."""
        place_B = np.minimum(np.searchsorted(self.row_U, row_B), len(self.row_U) - 1)
        is_changed_B = self.row_U[place_B] == row_B
        rank_BM[is_changed_B] = self.earlier_rank_UM[place_B[is_changed_B]]


class NegativeBank:
    """The candidates of one task. Per row and slot it holds the rank in use, S0, and what a rule remembers (`keep`).

    S0 is the similarity of query and negative at the first step that used the negative.
    """

    def __init__(self, num_rows: int, candidates: Candidates, num_slots: int) -> None:
        self.candidates, self.num_slots = candidates, num_slots
        first_M = candidates.offset + np.arange(num_slots)
        entry = np.dtype(
            [
                ("row", np.int32),
                ("rank", np.int32, (num_slots,)),  # in use
                ("start", np.float32, (num_slots,)),  # S0, NaN: not known yet
                ("next", np.int32),  # the rank to use next
                ("replaced", np.int32),  # number of replacements
                ("ended", np.bool_),  # whether a replacement was wanted but no candidate was left
            ]
        )
        # Rows that were never used share entry 0.
        none_M, next_rank = np.full(num_slots, np.nan), candidates.offset + num_slots
        self._entry_E = np.array([(-1, first_M, none_M, next_rank, 0, False)], entry)
        self._num_entries, self.num_ended = 1, 0
        self._entry_of_row_R = np.zeros(num_rows, dtype=np.int32)
        self._pending: tuple[PendingReplacement, ...] = ()  # in the order of their steps
        self._unused_memory: dict[str, float] = {}

    def keep(self, memory: Mapping[str, float]) -> None:
        """Keep more numbers per slot (float32), beside S0; to be called before any row is used.

        memory: the name of a number → its value for a negative that has not been used yet.
        """
        assert self._num_entries == 1, "rows have been used"
        fields = [(name, np.float32, (self.num_slots,)) for name in memory]
        entry_E = np.empty(1, np.dtype([*self._entry_E.dtype.descr, *fields]))
        for name in self._entry_E.dtype.names or ():
            entry_E[name] = self._entry_E[name]
        for name, value in memory.items():
            entry_E[name] = value
        self._entry_E, self._unused_memory = entry_E, {**self._unused_memory, **memory}

    def ranks(self, row_B: np.ndarray, step: int | None = None) -> np.ndarray:
        """Candidate ranks [B, M] that step `step` uses; without `step`, the ranks after the latest replacement.

        Another thread may call this for the plan of a later step while `replace` runs. `replace` stores the earlier
        ranks first and the new ranks second. This method reads in the opposite order, so it never misses a change.
        """
        entry_B = self._entry_of_row_R[row_B]
        rank_BM = self._entry_E["rank"][entry_B].astype(np.int64)
        for replacement in reversed(self._pending):
            if step is not None and step < replacement.first_step:
                replacement.undo(row_B, rank_BM)
        return rank_BM

    def start(self, row_B: np.ndarray, similarity_BM: np.ndarray, valid_BM: np.ndarray) -> None:
        """Set S0 to `similarity` in the valid slots that have no S0 yet."""
        entry_B = self._own_entries(row_B)
        start_BM = self._entry_E["start"][entry_B]
        self._entry_E["start"][entry_B] = np.where(np.isnan(start_BM) & valid_BM, similarity_BM, start_BM)

    def starts(self, row_B: np.ndarray) -> np.ndarray:
        """S0 [B, M]; NaN where it is not known yet."""
        return self._entry_E["start"][self._entry_of_row_R[row_B]]

    def memory(self, row_B: np.ndarray) -> dict[str, np.ndarray]:
        """The numbers of `keep` [B, M], by name."""
        entry_B = self._entry_of_row_R[row_B]
        return {name: self._entry_E[name][entry_B] for name in self._unused_memory}

    def remember(self, row_B: np.ndarray, memory: Mapping[str, np.ndarray], valid_BM: np.ndarray) -> None:
        """Change the numbers of `keep` in the valid slots."""
        entry_B = self._own_entries(row_B)
        for name, value_BM in memory.items():
            self._entry_E[name][entry_B] = np.where(valid_BM, value_BM, self._entry_E[name][entry_B])

    def next_ranks(self, row_B: np.ndarray, leaving_BM: np.ndarray, *, wrap: bool) -> np.ndarray:
        """The ranks [B, M] that replace the ranks of the leaving slots.

        The first leaving slot of a row gets the row's next free rank, the second one the free rank after that, and so
        on. The result is -1 for slots that stay, and where the row has no further candidate. wrap: after a row's last
        candidate, continue at the offset and skip the ranks in use. Suffix A: the ranks examined, in order.
        """
        offset, size_B1 = self.candidates.offset, self.candidates.count(row_B)[:, None]
        ahead_A = np.arange(2 * self.num_slots)  # M free ranks and at most M in use
        rank_BA = self._entry_E["next"][self._entry_of_row_R[row_B], None] + ahead_A
        is_free_BA = rank_BA < size_B1
        if wrap:
            size_of_lap_B1 = np.maximum(size_B1 - offset, 0)
            is_free_BA = ahead_A < size_of_lap_B1
            rank_BA = offset + (rank_BA - offset) % np.maximum(size_of_lap_B1, 1)
            is_free_BA &= (rank_BA[:, :, None] != self.ranks(row_B)[:, None, :]).all(2)
        free_first_BM = np.argsort(~is_free_BA, axis=1, kind="stable")[:, : self.num_slots]
        free_rank_BM = np.where(
            np.take_along_axis(is_free_BA, free_first_BM, 1), np.take_along_axis(rank_BA, free_first_BM, 1), -1
        )
        number_of_leaving_BM = np.maximum(np.cumsum(leaving_BM, axis=1) - 1, 0)
        return np.where(leaving_BM, np.take_along_axis(free_rank_BM, number_of_leaving_BM, 1), -1)

    def replace(self, row_B: np.ndarray, rank_BM: np.ndarray, *, first_step: int) -> None:
        """Put the candidates of the ranks >= 0 into their slots, from step `first_step` on. Their S0 is unknown.

        row_B: distinct rows, ascending. rank_BM: the result of `next_ranks`; its ranks may be in other slots.
        """
        is_changed_B = (rank_BM >= 0).any(1)
        row_B, rank_BM = row_B[is_changed_B], rank_BM[is_changed_B]
        if not len(row_B):
            return
        entry_B, is_new_BM = self._own_entries(row_B), rank_BM >= 0
        before_BM = self.ranks(row_B)
        self._pending = (*self._pending, PendingReplacement(first_step, row_B, before_BM))
        self._entry_E["rank"][entry_B] = np.where(is_new_BM, rank_BM, before_BM)
        self._entry_E["start"][entry_B] = np.where(is_new_BM, np.nan, self._entry_E["start"][entry_B])
        for name, unused in self._unused_memory.items():
            self._entry_E[name][entry_B] = np.where(is_new_BM, unused, self._entry_E[name][entry_B])
        self._entry_E["next"][entry_B] = self._last_of(row_B, rank_BM) + 1
        self._entry_E["replaced"][entry_B] += 1

    def _last_of(self, row_B: np.ndarray, rank_BM: np.ndarray) -> np.ndarray:
        """[B]: the one of the new ranks that comes last in the order in which `next_ranks` gives them."""
        size_of_lap_B1 = np.maximum(self.candidates.count(row_B)[:, None] - self.candidates.offset, 1)
        ahead_BM = (rank_BM - self._entry_E["next"][self._entry_of_row_R[row_B], None]) % size_of_lap_B1
        last_B1 = np.argmax(np.where(rank_BM >= 0, ahead_BM, -1), axis=1)[:, None]
        return np.take_along_axis(rank_BM, last_B1, 1)[:, 0]

    def end(self, row_B: np.ndarray) -> None:
        """Note that these rows have no further candidate; `num_ended` counts them. row_B: distinct rows."""
        entry_B = self._own_entries(row_B)
        self.num_ended += int((~self._entry_E["ended"][entry_B]).sum())
        self._entry_E["ended"][entry_B] = True

    def forget_before(self, step: int) -> None:
        """Drop the earlier ranks that only steps before `step` need."""
        self._pending = tuple(replacement for replacement in self._pending if replacement.first_step > step)

    def num_replaced(self, row_B: np.ndarray) -> np.ndarray:
        """The number of replacements of each row [B]."""
        return self._entry_E["replaced"][self._entry_of_row_R[row_B]]

    def state(self) -> dict[str, np.ndarray]:
        """The entries of the rows used so far and the pending replacements (`late_*`), for a checkpoint."""
        entries, pending = self._entry_E[1 : self._num_entries], self._pending
        none = np.empty(0, dtype=np.int64)
        none_M = none.reshape(0, self.num_slots)
        return {
            **{name: entries[name].copy() for name in entries.dtype.names or ()},
            "late_step": np.concatenate([none, *(np.full(len(item.row_U), item.first_step) for item in pending)]),
            "late_row": np.concatenate([none, *(item.row_U for item in pending)]),
            "late_rank": np.concatenate([none_M, *(item.earlier_rank_UM for item in pending)]),
        }

    def load_state(self, state: dict[str, np.ndarray]) -> None:
        """Continue from a result of `state()`. No row of this bank may have been used before."""
        self._add_entries(state["row"])
        for name in self._entry_E.dtype.names or ():
            self._entry_E[name][1 : self._num_entries] = state[name]
        self.num_ended = int(state["ended"].sum())
        for step in np.unique(state["late_step"]).tolist():
            of_step = state["late_step"] == step
            row_U, earlier_rank_UM = state["late_row"][of_step], state["late_rank"][of_step]
            self._pending = (*self._pending, PendingReplacement(step, row_U, earlier_rank_UM))

    def _own_entries(self, row_B: np.ndarray) -> np.ndarray:
        """The index [B] of each row's entry. Rows that still share entry 0 get an entry first."""
        self._add_entries(np.unique(row_B[self._entry_of_row_R[row_B] == 0]))
        return self._entry_of_row_R[row_B]

    def _add_entries(self, row_U: np.ndarray) -> None:
        start, stop = self._num_entries, self._num_entries + len(row_U)
        if stop > len(self._entry_E):
            grown_E = np.empty(max(stop, 2 * len(self._entry_E)), self._entry_E.dtype)
            grown_E[:start] = self._entry_E[:start]
            self._entry_E = grown_E
        self._entry_E[start:stop] = self._entry_E[0]
        self._entry_E["row"][start:stop] = row_U
        self._num_entries = stop
        self._entry_of_row_R[row_U] = np.arange(start, stop)
