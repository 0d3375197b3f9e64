"""Finds what a task cannot learn from its data and its settings, for warnings at the start of a run and in `plan`.

Every message is one line that names the task, the numbers, and what to change. Texts count as one as
`harness/data/table/identity.py` says.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np

from harness.data.distinct import merge_pairs, pairs_among
from harness.data.plan.plan import plan
from harness.data.plan.task import Task
from harness.data.pseudo_random import mix64
from harness.data.table.index import TaskData
from harness.loss_table import LOSSES
from harness.types import Balance, QueryPart

CHUNK_ROWS = 1 << 20
LOOKED_AT_QUERIES, LOOKED_AT_STEPS = 8192, 64  # of the plan, at most; an epoch at most
LOOKED_AT_TEXTS = 1 << 18  # of the plan: no further step is planned after so many, which takes less than a second
_NEARLY_ALL = 0.9  # of the rows
_SAME_QUERY = (
    "all {:,} rows have the same query after its prompt and the cut to query_max_length, so it has no negatives but "
    "its own; give more data, or raise the length"
)


def nothing_to_learn(tasks: Sequence[Task], *, seed: int, balance: Balance, num_steps: int) -> list[str]:
    """One line for everything that can teach nothing; empty if there is none. Reads arrays only, never a text.

    Examines all rows of the data, and the negatives of the first steps of the run, up to one epoch.
    """
    lines = []
    for task in tasks:
        for problem in _PROBLEMS[task.config.kind]:
            message = problem(task)
            lines += [f"task {task.config.name}: {message}"] if message else []
        is_merged = balance == "homogeneous" and task.config.kind == "retrieval"  # its quota with those of others
        message = None if is_merged else _no_pair_to_spread(task)
        lines += [f"task {task.config.name}: {message}"] if message else []
    without_negatives = dict(_queries_without_negatives(tasks, seed, balance, num_steps))
    for task in tasks:
        message = without_negatives.get(task.config.name) or (
            _SAME_QUERY.format(task.data.num_rows) if _has_a_single_query(task) else None
        )
        lines += [f"task {task.config.name}: {message}"] if message else []
    return lines


def _quota_repeats_rows(task: Task) -> str | None:
    num_rows = task.data.num_rows
    if task.quota <= num_rows:
        return None
    return (
        f"a step holds {task.quota} of its only {num_rows:,} rows, each {task.quota / num_rows:.1f} times; lower quota "
        f"to {num_rows:,} or give more data"
    )


def _has_a_single_query(task: Task) -> bool:
    sorted_R = task.data.sorted_query_token_hash_R
    return task.config.kind != "sts" and bool(sorted_R[0] == sorted_R[-1])


def _equal_scores(task: Task) -> str | None:
    score_R = task.data.score_R
    assert score_R is not None
    if score_R.min() == score_R.max():
        return (
            f"all {task.data.num_rows:,} scores are {score_R[0]:g}, and {_names(task)} compares pairs of different "
            "scores: its loss is always 0; give graded scores, or matching pairs as a retrieval task"
        )
    if task.quota == 1:
        return f"a step holds one pair, and {_names(task)} compares pairs with each other; set quota to 2 at least"
    return None


def _no_pair_to_spread(task: Task) -> str | None:
    """One query and one positive in a step, with a loss of the pairs of each side."""
    names = [name for name in task.config.losses if LOSSES[name].pairs_of == "sides"]
    if not names or task.quota > 1 or task.config.positives == "all":
        return None
    return (
        f"a step holds one query, and {' + '.join(names)} compares queries with each other, and positives: it is "
        "always 0; set quota to 2 at least"
    )


def _conflicting_scores(task: Task) -> str | None:
    """Pairs whose two texts are one with those of another pair, in either order, but whose score is another one."""
    score_R = task.data.score_R
    assert score_R is not None
    first_R = task.data.row_start_R1[:-1]
    token_R2 = np.sort(np.stack([task.data.token_hash_G[first_R], task.data.token_hash_G[first_R + 1]], axis=1), axis=1)
    pair_R = mix64(mix64(token_R2[:, 0], 1) ^ token_R2[:, 1], 2)
    _, group_R = np.unique(pair_R, return_inverse=True)
    low_U, high_U = np.full(int(group_R.max()) + 1, np.inf), np.full(int(group_R.max()) + 1, -np.inf)
    np.minimum.at(low_U, group_R, score_R)
    np.maximum.at(high_U, group_R, score_R)
    count = int((low_U < high_U)[group_R].sum())
    if not count:
        return None
    return (
        f"{count:,} of {task.data.num_rows:,} pairs have the same two texts as another pair but another score: they "
        "pull against each other; keep one score of each"
    )


def _pairs_of_one_text(task: Task) -> str | None:
    """Pairs whose two texts are one to the model: their cosine is 1 whatever is learned."""
    first_R = task.data.row_start_R1[:-1]
    count = int((task.data.token_hash_G[first_R] == task.data.token_hash_G[first_R + 1]).sum())
    if count < _NEARLY_ALL * task.data.num_rows:
        return None
    return (
        f"both texts are one in {count:,} of {task.data.num_rows:,} pairs: their cosine is always 1, so they teach "
        "nothing; give pairs of different texts, or raise max_length if it cuts the difference off"
    )


def _conflicting_labels(task: Task) -> str | None:
    """Texts that occur with several labels. Rows with one text are neighbours in the sorted lookup of token hashes."""
    data, count = task.data, 0
    assert data.label_R is not None
    for hash_N, row_N in _groups_of_equal_queries(data):
        start_U = np.flatnonzero(np.diff(hash_N, prepend=~hash_N[:1]))
        label_N = data.label_R[row_N]
        low_U, high_U = np.minimum.reduceat(label_N, start_U), np.maximum.reduceat(label_N, start_U)
        count += int((low_U < high_U).sum())
    if not count:
        return None
    return (
        f"{count:,} text{'s occur' if count > 1 else ' occurs'} with several labels: a positive of all of "
        "them, and never a negative of their texts; keep one label of each"
    )


def _labels_of_one_text(task: Task) -> str | None:
    """Labels all of whose rows are one text: the only positive of the text is itself."""
    data = task.data
    assert data.label_order_R is not None
    assert data.label_start_C1 is not None
    start_C = data.label_start_C1[:-1]
    # The lowest and the highest hash of a label are equal if it has one text.
    hash_R = data.token_hash_G[data.row_start_R1[data.label_order_R]]
    is_single_C = np.minimum.reduceat(hash_R, start_C) == np.maximum.reduceat(hash_R, start_C)
    if not is_single_C.any():
        return None
    return (
        f"all rows of {int(is_single_C.sum()):,} of its {len(start_C):,} labels (first: "
        f"{data.label_names[int(np.argmax(is_single_C))]!r}) are one text, which is then its own positive; give the "
        "label another text"
    )


def _positives_that_are_the_query(task: Task) -> str | None:
    data = task.data
    num_looked_at = min(data.num_rows, CHUNK_ROWS)
    first_R = data.row_start_R1[:num_looked_at]
    query_keys = data.keys(first_R)
    is_itself_R = np.ones(num_looked_at, dtype=bool)
    for place in range(1, int(data.num_positives_R[:num_looked_at].max()) + 1):
        has_R = np.flatnonzero(is_itself_R & (data.num_positives_R[:num_looked_at] >= place))
        if not len(has_R):
            break
        is_itself_R[has_R] = query_keys[has_R].is_one_with(data.keys(first_R[has_R] + place))
    count = int(is_itself_R.sum())
    if not count:
        return None
    return (
        f"the positive is the query itself in {count:,} of {num_looked_at:,} rows: both are one text to the model, or "
        "differ in the prompt only; remove these rows, or raise max_length if it cuts the difference off"
    )


def _slots_without_candidates(task: Task) -> str | None:
    """Fewer listed or mined negatives than `per_query` in nearly all rows."""
    slots = task.config.negatives.per_query
    if task.bank is None or not slots:
        return None
    candidates, num_rows = task.bank.newest.candidates, task.data.num_rows
    blocks = [np.arange(start, min(start + CHUNK_ROWS, num_rows)) for start in range(0, num_rows, CHUNK_ROWS)]
    counts = [np.maximum(candidates.count(row_B) - candidates.offset, 0) for row_B in blocks]
    num_fewer = sum(int((count_B < slots).sum()) for count_B in counts)
    num_empty = sum(int((count_B == 0).sum()) for count_B in counts)
    if num_fewer < _NEARLY_ALL * num_rows or 2 * num_empty >= num_rows:  # the latter has a message of its own
        return None
    return (
        f"{num_fewer:,} of {num_rows:,} rows have fewer negatives than negatives.per_query {slots} (at most "
        f"{max(int(count_B.max()) for count_B in counts)}); lower per_query, or mine more with harness mine"
    )


def _queries_without_negatives(
    tasks: Sequence[Task], seed: int, balance: Balance, num_steps: int
) -> Iterator[tuple[str, str]]:
    """Count, in the plans of the first steps, the queries of a task that no document is compared with: (task, line)."""
    judged = {task.config.name: task for task in tasks if _needs_negatives(task)}
    seen: dict[str, set[int]] = {name: set() for name in judged}  # rows
    without: dict[str, set[int]] = {name: set() for name in judged}
    num_texts = 0
    for step in range(1, min(num_steps, LOOKED_AT_STEPS) + 1):
        is_epoch = all(len(seen[name]) == task.data.num_rows for name, task in judged.items())
        if is_epoch or sum(map(len, seen.values())) >= LOOKED_AT_QUERIES or num_texts >= LOOKED_AT_TEXTS:
            break
        step_plan = plan(tasks, seed=seed, step=step, balance=balance)
        num_texts += len(step_plan.texts)
        for part in step_plan.parts:
            if part.task in judged:
                assert isinstance(part, QueryPart)
                seen[part.task].update(part.row_B.tolist())
                without[part.task].update(part.row_B[~_has_negative(part)].tolist())
    for name, task in judged.items():
        if without[name]:
            yield name, _without_negatives_message(task, len(without[name]), len(seen[name]))


def _without_negatives_message(task: Task, count: int, total: int) -> str:
    scope = task.config.scope
    if _has_a_single_query(task):
        reason, remedy = "all rows have the same query", "give more data, or negatives of its own (negatives.per_query)"
    else:
        reason = "there is none, or every one is a known positive"
        remedy = "raise quota, or give negatives of their own (negatives.per_query)"
    if scope == "own":
        remedy = "give other negatives, or set negatives.scope: task"
    return (
        f"{count:,} of {total:,} queries have no negative in a step (negatives.scope {scope}; {reason}), so their loss "
        f"is 0; {remedy}"
    )


def _needs_negatives(task: Task) -> bool:
    """Whether the task has a query loss that compares a query with all its negatives."""
    return task.config.kind != "sts" and any(LOSSES[name].uses_negatives_options for name in task.config.losses)


def _has_negative(part: QueryPart) -> np.ndarray:
    """Whether each query of the part has a document that is neither its positive nor excluded, bool [B]."""
    owner, column = np.nonzero(part.positive_BP >= 0)
    left_out = merge_pairs((owner, part.positive_BP[owner, column]), part.excluded_pairs())
    if not part.own_negatives_only:
        return np.bincount(left_out[0], minlength=len(part.query_B)) < len(part.document_N)
    owner, column = np.nonzero(part.negative_BM >= 0)
    is_left_out = pairs_among(owner, part.negative_BM[owner, column], left_out)
    return np.bincount(owner[~is_left_out], minlength=len(part.query_B)) > 0


def _groups_of_equal_queries(data: TaskData) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yields (token hash, row) of many rows at a time, sorted by hash; rows with one hash come together."""
    hash_R, row_R = data.sorted_query_token_hash_R, data.sorted_query_token_row_R
    start = 0
    while start < len(hash_R):
        stop = min(start + CHUNK_ROWS, len(hash_R))
        stop = int(np.searchsorted(hash_R, hash_R[stop - 1], "right"))
        yield np.asarray(hash_R[start:stop]), np.asarray(row_R[start:stop])
        start = stop


def _names(task: Task) -> str:
    return " + ".join(task.config.losses)


_PROBLEMS: dict[str, Sequence[Callable[[Task], str | None]]] = {
    "retrieval": (_quota_repeats_rows, _positives_that_are_the_query, _slots_without_candidates),
    "sts": (_quota_repeats_rows, _equal_scores, _pairs_of_one_text, _conflicting_scores),
    "classification": (_quota_repeats_rows, _conflicting_labels, _labels_of_one_text),
}
