"""Chooses the examples of a step, and the positives and negatives of each example.

Each task has an endless sequence of shuffled epochs over its examples. A step takes the next `quota` places of this
sequence, so that an epoch visits every example exactly once, whatever the quota is. The sequence is not stored: the
example at a place is computed from the number of the place.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import gcd

import numpy as np

from harness.data.bank.negatives import Candidates
from harness.data.distinct import distinct
from harness.data.plan.permutation import derive_key, permute
from harness.data.plan.task import Task, negative_source
from harness.data.pseudo_random import mix64
from harness.data.table.index import TaskData
from harness.types import Balance

MAX_TRIES = 256  # rows of a label that are looked at for a text other than the query's


@dataclass(frozen=True, slots=True)
class DrawnExamples:
    """The examples of one task in one step, as text ids. For STS, query and positive are the two texts of the pair."""

    task: int  # position among the tasks
    row_B: np.ndarray  # rows of the task's data
    query_B: np.ndarray  # text ids of the task's data
    positive_BP: np.ndarray  # text ids of the task's data, -1 padded
    negative_BM: np.ndarray  # text ids of the table `negative_source`, -1 padded
    negative_source: int  # position among `text_sources`
    rank_BM: np.ndarray  # rank of each negative among the query's candidates, -1 where negatives are not ranked

    def document_ids(self) -> list[tuple[int, np.ndarray]]:
        """(source, text ids) of the positives and negatives; text ids ascending and distinct."""
        positives = self.positive_BP[self.positive_BP >= 0]
        negatives = self.negative_BM[self.negative_BM >= 0]
        if self.negative_source == self.task:
            return [(self.task, distinct(np.concatenate([positives, negatives])))]
        return [(self.task, distinct(positives)), (self.negative_source, distinct(negatives))]

    def text_ids(self) -> list[tuple[int, np.ndarray]]:
        """(source, text ids) of all texts; sources distinct, text ids ascending and distinct."""
        (own, documents), *others = self.document_ids()
        return [(own, distinct(np.concatenate([self.query_B, documents]))), *others]


def draw_examples(tasks: Sequence[Task], *, seed: int, step: int, balance: Balance) -> list[DrawnExamples]:
    """The examples of the step number `step`, one entry per task in the step.

    balance:
        cbb: every step holds every task with its quota (paper, section 3.3).
        alternate: every step holds one task with its quota. The number of steps of a task is proportional to its quota
            (the paper's "sequential random task training"), so the number of its examples is proportional to quota^2.
        homogeneous: every step holds one of the retrieval tasks, with as many examples as all their quotas together,
            and every task of another kind with its quota. The number of steps of a retrieval task is proportional to
            its quota (batches from one source: Arctic-Embed, arXiv 2405.05374; Nomic Embed, arXiv 2402.01613).
    """
    take_turns = _that_take_turns(tasks, balance)
    num_examples = {i: task.quota for i, task in enumerate(tasks) if i not in take_turns}
    num_visits = dict.fromkeys(num_examples, step - 1)
    if take_turns:
        place, earlier_turns = turn([tasks[i].quota for i in take_turns], balance, seed, step)
        chosen = take_turns[place]
        num_examples[chosen], *_ = draws_per_turn(tasks, chosen, balance)
        num_visits[chosen] = earlier_turns
    return [_draw(tasks, i, seed, num_visits[i], step, num_examples[i]) for i in sorted(num_examples)]


def draws_per_turn(tasks: Sequence[Task], index: int, balance: Balance) -> tuple[int, int | None, list[int]]:
    """(examples of a task in each of its steps; its place among the tasks that take turns, None: it is in every step;
    the quotas of those tasks)."""
    take_turns = _that_take_turns(tasks, balance)
    quotas = [tasks[i].quota for i in take_turns]
    if index not in take_turns:
        return tasks[index].quota, None, quotas
    return tasks[index].quota if balance == "alternate" else sum(quotas), take_turns.index(index), quotas


def _that_take_turns(tasks: Sequence[Task], balance: Balance) -> list[int]:
    """Positions of the tasks of which a step holds one."""
    is_retrieval = [task.config.kind == "retrieval" for task in tasks]
    return [i for i in range(len(tasks)) if balance == "alternate" or (balance == "homogeneous" and is_retrieval[i])]


def turn(quotas: Sequence[int], balance: Balance, seed: int, step: int) -> tuple[int, int]:
    """For tasks that take turns: the position of the task that step `step` trains, and the number of its earlier steps.

    The steps are divided into blocks. A block has quota / gcd(quotas) steps of every task; each block is shuffled anew.
    """
    turns = np.array(quotas) // gcd(*quotas)
    block, place = divmod(step - 1, int(turns.sum()))
    task_of_turn = np.repeat(np.arange(len(turns)), turns)
    shuffled = task_of_turn[permute(np.arange(len(task_of_turn)), len(task_of_turn), derive_key(seed, balance, block))]
    task = int(shuffled[place])
    return task, block * int(turns[task]) + int((shuffled[:place] == task).sum())


def _draw(tasks: Sequence[Task], index: int, seed: int, num_visits: int, step: int, count: int) -> DrawnExamples:
    """The next `count` examples of task `index` after the examples of its `num_visits` earlier steps."""
    task = tasks[index]
    row_B, epoch_B = _rows(task, seed, num_visits * count + np.arange(count))
    query_B = task.data.row_start_R1[row_B].astype(np.int64)
    key = derive_key(seed, task.config.name, "texts")
    if task.config.kind == "retrieval":
        assert task.bank is not None
        positive_BP = _listed_positives(task, row_B, epoch_B, query_B, key)
        bank = task.bank.at(step)
        if task.config.negatives.draw == "random":
            rank_BM = _random_ranks(task, bank.candidates, row_B, epoch_B, seed)
        else:
            rank_BM = bank.ranks(row_B, step)
        negative_BM = bank.candidates.text_ids(row_B, rank_BM)
        return DrawnExamples(index, row_B, query_B, positive_BP, negative_BM, negative_source(tasks, index), rank_BM)
    if task.config.kind == "classification":
        positive_B, negative_BM = _by_label(task, row_B, epoch_B, key)
    else:
        positive_B, negative_BM = query_B + 1, np.empty((len(row_B), 0), dtype=np.int64)
    no_rank_BM = np.full_like(negative_BM, -1)
    return DrawnExamples(index, row_B, query_B, positive_B[:, None], negative_BM, index, no_rank_BM)


def _rows(task: Task, seed: int, place_B: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(row, epoch) at each place of the task's endless sequence of shuffled epochs."""
    epoch_B, offset_B = np.divmod(place_B, task.data.num_rows)
    row_B = np.empty_like(offset_B)
    for epoch in np.unique(epoch_B):
        key = derive_key(seed, task.config.name, "order", int(epoch))
        in_epoch_B = epoch_B == epoch
        row_B[in_epoch_B] = permute(offset_B[in_epoch_B], task.data.num_rows, key)
    return row_B, epoch_B


def _listed_positives(task: Task, row_B: np.ndarray, epoch_B: np.ndarray, query_B: np.ndarray, key: int) -> np.ndarray:
    """Text ids [B, P] of each row's positives, -1 padded: all positives, or one, as the task's `positives` says.

    With one positive, the first epoch uses a random one of the row's list and each later epoch the next one.
    """
    count_B = task.data.num_positives_R[row_B].astype(np.int64)
    if task.config.positives == "all":
        place_P = np.arange(count_B.max())
        return np.where(place_P < count_B[:, None], query_B[:, None] + 1 + place_P, -1)
    place_B = (mix64(row_B, key) + epoch_B.astype(np.uint64)) % count_B.astype(np.uint64)
    return (query_B + 1 + place_B.astype(np.int64))[:, None]


def _random_ranks(task: Task, candidates: Candidates, row_B: np.ndarray, epoch_B: np.ndarray, seed: int) -> np.ndarray:
    """`per_query` ranks [B, M] of each row's candidates from the offset on: distinct, and others in every epoch.

    Where a row has fewer, the rest are one past its last rank, which has no text.
    """
    key_B = _key_of_use(row_B, epoch_B, derive_key(seed, task.config.name, "negatives"), 0)
    size_B, offset = candidates.count(row_B), candidates.offset
    place_BM = _sample_without_replacement(np.maximum(size_B - offset, 0), task.config.negatives.per_query, key_B)
    return np.where(place_BM >= 0, offset + place_BM, size_B[:, None])


def _by_label(task: Task, row_B: np.ndarray, epoch_B: np.ndarray, key: int) -> tuple[np.ndarray, np.ndarray]:
    """Positives [B] and negatives [B, M] of a classification task (paper, section 3.2), as text ids.

    The positive is another text of the query's label; the query itself only where a label has no other. The negatives
    are `per_query` distinct texts of other labels, -1 where there are fewer.
    """
    data, count = task.data, task.config.negatives.per_query
    assert data.label_R is not None
    assert data.label_order_R is not None
    assert data.label_start_C1 is not None
    label_B = data.label_R[row_B]
    start_B, stop_B = data.label_start_C1[label_B], data.label_start_C1[label_B + 1]
    size_B = (stop_B - start_B).astype(np.int64)
    place_B = _place_in_label(data.label_order_R, row_B, start_B, size_B)
    random_B = mix64(mix64(row_B, key), 1) + epoch_B.astype(np.uint64)
    jump_B = (random_B % (size_B - 1).astype(np.uint64)).astype(np.int64)
    positive_B = _another_text(data, row_B, start_B, size_B, place_B, jump_B)
    key_B = _key_of_use(row_B, epoch_B, key, 2)
    other_BM = _sample_without_replacement(data.num_rows - size_B, count, key_B)
    other_BM += np.where(other_BM >= start_B[:, None], size_B[:, None], 0)  # skip the label's own rows
    row_start = data.row_start_R1
    negative_BM = row_start[data.label_order_R[np.maximum(other_BM, 0)]].astype(np.int64)
    return row_start[positive_B].astype(np.int64), np.where(other_BM >= 0, negative_BM, -1)


def _key_of_use(row_B: np.ndarray, epoch_B: np.ndarray, key: int, number: int) -> np.ndarray:
    """A key [B] of each row's use in an epoch. number: tells apart what is drawn with one key."""
    return mix64(mix64(row_B, key) + epoch_B.astype(np.uint64) * np.uint64(1_000_003), number)


def _another_text(
    data: TaskData, row_B: np.ndarray, start_B: np.ndarray, size_B: np.ndarray, place_B: np.ndarray, jump_B: np.ndarray
) -> np.ndarray:
    """For each query a row of its label, int64 [B]: the row `1 + jump` places after its own, or a row that follows.

    start_B, size_B: the label's rows in `label_order_R`. place_B: the query's place among them. A row whose text is one
    with the query's teaches nothing, so that up to `MAX_TRIES` rows are tried.
    """
    assert data.label_order_R is not None
    first_text_R, query_keys = data.row_start_R1, data.keys(data.row_start_R1[row_B])
    positive_B = data.label_order_R[start_B + (place_B + 1 + jump_B) % size_B].astype(np.int64)
    same_B = np.flatnonzero(query_keys.is_one_with(data.keys(first_text_R[positive_B])))
    for tried in range(1, MAX_TRIES):
        same_B = same_B[tried < size_B[same_B] - 1]
        if not len(same_B):
            break
        jump_N = 1 + (jump_B[same_B] + tried) % (size_B[same_B] - 1)  # never 0, which is the query's own row
        other_N = data.label_order_R[start_B[same_B] + (place_B[same_B] + jump_N) % size_B[same_B]]
        is_same_N = query_keys[same_B].is_one_with(data.keys(first_text_R[other_N]))
        positive_B[same_B[~is_same_N]] = other_N[~is_same_N]
        same_B = same_B[is_same_N]
    return positive_B


def _sample_without_replacement(size_B: np.ndarray, count: int, key_B: np.ndarray) -> np.ndarray:
    """For each key, `count` distinct random numbers of [0, size): int64 [B, count], -1 padded where size < count.

    Robert Floyd's sampling (Bentley, CACM 30(9), 1987): every subset is equally likely, and the list of all numbers is
    never built.
    """
    chosen_BM = np.full((len(size_B), count), -1, dtype=np.int64)
    wanted_B = np.minimum(count, size_B)
    for column in range(count):
        last_B = size_B - wanted_B + column
        random_B = mix64(key_B, column) % (np.maximum(last_B, 0) + 1).astype(np.uint64)
        drawn_B = random_B.astype(np.int64)
        is_chosen_B = (chosen_BM[:, :column] == drawn_B[:, None]).any(axis=1)
        chosen_BM[:, column] = np.where(column < wanted_B, np.where(is_chosen_B, last_B, drawn_B), -1)
    return chosen_BM


def _place_in_label(
    label_order_R: np.ndarray, row_B: np.ndarray, start_B: np.ndarray, size_B: np.ndarray
) -> np.ndarray:
    """Position of each row among the `size` rows of its label from `start` on, which are ascending: int64 [B].

    A binary search of all rows at once.
    """
    low_B, high_B = np.zeros_like(size_B), size_B - 1
    while (low_B < high_B).any():
        middle_B = (low_B + high_B) // 2
        is_before_B = label_order_R[start_B + middle_B] < row_B
        low_B = np.where(is_before_B & (low_B < high_B), middle_B + 1, low_B)
        high_B = np.where(is_before_B, high_B, middle_B)
    return low_B
