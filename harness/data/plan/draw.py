"""Stage 4a: which examples a step holds, and which texts of each.

A task walks through its own endless sequence of shuffled epochs; step t holds the next `quota` places of it, so that an
epoch visits every example exactly once whatever the quota. Nothing is stored: each place is computed from its number.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import gcd

import numpy as np

from harness.data.plan.permutation import derive_key, permute
from harness.data.plan.task import Task, negative_source
from harness.data.ragged import mix64
from harness.data.table.index import TaskData
from harness.types import Balance


@dataclass(frozen=True, slots=True)
class Draw:
    """Examples of one task in one step, as text ids of the task's own table. STS: query and positive are the pair."""

    task: int
    row_B: np.ndarray
    query_B: np.ndarray
    positive_BP: np.ndarray  # -1 padded
    negative_BM: np.ndarray  # -1 padded, ids of the table `negative_source`
    negative_source: int  # of `text_sources`
    rank_BM: np.ndarray  # of the negatives among the query's candidates, -1 where they are not ranked

    def document_ids(self) -> list[tuple[int, np.ndarray]]:
        """(source, text ids) of the sampled positives and negatives, each once."""
        positives = self.positive_BP[self.positive_BP >= 0]
        negatives = self.negative_BM[self.negative_BM >= 0]
        if self.negative_source == self.task:
            return [(self.task, np.unique(np.concatenate([positives, negatives])))]
        return [(self.task, np.unique(positives)), (self.negative_source, np.unique(negatives))]

    def text_ids(self) -> list[tuple[int, np.ndarray]]:
        """(source, text ids) of all its texts, each source and text once."""
        (own, documents), *others = self.document_ids()
        return [(own, np.unique(np.concatenate([self.query_B, documents]))), *others]


def draw_examples(tasks: Sequence[Task], *, seed: int, step: int, balance: Balance) -> list[Draw]:
    """The examples of step `step`, task by task.

    balance: `cbb`, every task's quota (paper, section 3.3); `alternate`, one task's quota, the task drawn in proportion
    to the quotas (the paper's "sequential random task training"), so that the examples of a task, turns times quota,
    are in proportion to quota^2; `homogeneous`, the sum of the retrieval tasks' quotas from one of them, drawn in
    proportion to them (batches of one source: Arctic-Embed, arXiv 2405.05374; Nomic Embed, arXiv 2402.01613), and every
    task of another kind with its own quota.
    """
    everyone = range(len(tasks))
    if balance == "cbb":
        return [_draw(tasks, index, seed, step - 1, step, tasks[index].quota) for index in everyone]
    taking_turns = [i for i in everyone if balance == "alternate" or tasks[i].config.kind == "retrieval"]
    if not taking_turns:
        return draw_examples(tasks, seed=seed, step=step, balance="cbb")
    quotas = [tasks[i].quota for i in taking_turns]
    turn, visit = _turn(quotas, balance, seed, step)
    chosen = taking_turns[turn]
    draws = []
    for index in everyone:
        if index == chosen:
            count = quotas[turn] if balance == "alternate" else sum(quotas)
            draws.append(_draw(tasks, index, seed, visit, step, count))
        elif index not in taking_turns:
            draws.append(_draw(tasks, index, seed, step - 1, step, tasks[index].quota))
    return draws


def _turn(quotas: Sequence[int], balance: Balance, seed: int, step: int) -> tuple[int, int]:
    """Whose turn step `step` is and how many turns it had before: shuffled blocks, turns in proportion to quota."""
    turns = np.array(quotas) // gcd(*quotas)
    block, place = divmod(step - 1, int(turns.sum()))
    owner = np.repeat(np.arange(len(turns)), turns)
    order = owner[permute(np.arange(len(owner)), len(owner), derive_key(seed, balance, block))]
    task = int(order[place])
    return task, block * int(turns[task]) + int((order[:place] == task).sum())


def _draw(tasks: Sequence[Task], index: int, seed: int, visit: int, step: int, count: int) -> Draw:
    """The `count` examples of a task that follow those of its first `visit` visits."""
    task = tasks[index]
    place_B = visit * count + np.arange(count)
    epoch_B, offset_B = np.divmod(place_B, task.data.num_rows)
    row_B = np.empty_like(offset_B)
    for epoch in np.unique(epoch_B):
        key = derive_key(seed, task.config.name, "order", int(epoch))
        in_epoch = epoch_B == epoch
        row_B[in_epoch] = permute(offset_B[in_epoch], task.data.num_rows, key)
    query_B = task.data.row_start_R1[row_B].astype(np.int64)
    key = derive_key(seed, task.config.name, "texts")
    if task.config.kind == "classification":
        positive_B, negative_BM = _by_label(task, row_B, epoch_B, key)
    elif task.config.kind == "sts":
        positive_B, negative_BM = query_B + 1, np.empty((len(row_B), 0), dtype=np.int64)
    else:
        positive_BP = _listed_positives(task, row_B, epoch_B, query_B, key)
        assert task.bank is not None
        bank = task.bank.at(step)
        rank_BM = bank.ranks(row_B, step)
        negative_BM = bank.candidates.text_ids(row_B, rank_BM)
        return Draw(index, row_B, query_B, positive_BP, negative_BM, negative_source(tasks, index), rank_BM)
    return Draw(index, row_B, query_B, positive_B[:, None], negative_BM, index, np.full_like(negative_BM, -1))


def _listed_positives(task: Task, row_B: np.ndarray, epoch_B: np.ndarray, query_B: np.ndarray, key: int) -> np.ndarray:
    """Text ids [B, P], -1 padded: all of the row's positives, or one, round the list from a random start."""
    count_B = task.data.num_positives_R[row_B].astype(np.int64)
    if task.config.positives == "all":
        place_P = np.arange(count_B.max())
        return np.where(place_P < count_B[:, None], query_B[:, None] + 1 + place_P, -1)
    turn_B = (mix64(row_B, key) + epoch_B.astype(np.uint64)) % count_B.astype(np.uint64)
    return (query_B + 1 + turn_B.astype(np.int64))[:, None]


def _by_label(task: Task, row_B: np.ndarray, epoch_B: np.ndarray, key: int) -> tuple[np.ndarray, np.ndarray]:
    """Classification as retrieval (paper, section 3.2): a text of the same label, `per_query` different
    rows of other labels, -1 where there are fewer."""
    data, count = task.data, task.config.negatives.per_query
    assert data.label_R is not None
    assert data.label_order_R is not None
    assert data.label_start_C1 is not None
    label_B = data.label_R[row_B]
    start_B, stop_B = data.label_start_C1[label_B], data.label_start_C1[label_B + 1]
    size_B = (stop_B - start_B).astype(np.int64)
    place_B = np.array([_place_in_label(data, row, label) for row, label in zip(row_B, label_B, strict=True)])
    random_B = mix64(mix64(row_B, key), 1) + epoch_B.astype(np.uint64)
    jump_B = 1 + (random_B % (size_B - 1).astype(np.uint64)).astype(np.int64)
    positive_B = data.label_order_R[start_B + (place_B + jump_B) % size_B]
    key_B = mix64(mix64(row_B, key) + epoch_B.astype(np.uint64) * np.uint64(1_000_003), 2)
    other_BM = _choose(data.num_rows - size_B, count, key_B)
    other_BM += np.where(other_BM >= start_B[:, None], size_B[:, None], 0)  # step over the label's own block
    row_start = data.row_start_R1
    negative_BM = row_start[data.label_order_R[np.maximum(other_BM, 0)]].astype(np.int64)
    return row_start[positive_B].astype(np.int64), np.where(other_BM >= 0, negative_BM, -1)


def _choose(size_B: np.ndarray, count: int, key_B: np.ndarray) -> np.ndarray:
    """`count` different numbers of [0, size) for each key, or all of them and -1: [B, count].

    Robert Floyd's sampling (Bentley, CACM 30(9), 1987): every subset is equally likely, and no list of all numbers is
    made.
    """
    chosen_BM = np.full((len(size_B), count), -1, dtype=np.int64)
    wanted_B = np.minimum(count, size_B)
    for column in range(count):
        last_B = size_B - wanted_B + column
        random_B = mix64(key_B, column) % (np.maximum(last_B, 0) + 1).astype(np.uint64)
        drawn_B = random_B.astype(np.int64)
        taken_B = (chosen_BM[:, :column] == drawn_B[:, None]).any(axis=1)
        chosen_BM[:, column] = np.where(column < wanted_B, np.where(taken_B, last_B, drawn_B), -1)
    return chosen_BM


def _place_in_label(data: TaskData, row: int, label: int) -> int:
    assert data.label_order_R is not None
    assert data.label_start_C1 is not None
    block = data.label_order_R[data.label_start_C1[label] : data.label_start_C1[label + 1]]
    return int(np.searchsorted(block, row))
