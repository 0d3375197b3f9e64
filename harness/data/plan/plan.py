"""Stage 4: `plan(seed, step, bank)`, the pure function that names a step.

Every rank computes the same plan from memory-mapped arrays alone: no text is read, no loader state exists, and resume
needs only the step number and the bank. What a step is does not depend on how many ranks there are.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from harness.data.plan.draw import Draw, draw_examples
from harness.data.plan.known_positives import (
    known_positive_pairs,
    known_positives_among,
    merge_pairs,
    same_meaning_pairs,
)
from harness.data.plan.task import Task, TextSource, text_sources
from harness.types import Balance, PairPart, QueryPart, RaggedLists, StepPlan, StepTexts


def plan(tasks: Sequence[Task], *, seed: int, step: int, balance: Balance = "cbb") -> StepPlan:
    """Name the unique texts of step `step` (from 1) and how each task refers to them.

    balance: which tasks a step holds, and how many examples of each; see `draw_examples`.
    """
    draws = draw_examples(tasks, seed=seed, step=step, balance=balance)
    sources = text_sources(tasks)
    texts, row_of = _unique_texts(sources, draws)
    return StepPlan(step, texts, tuple(_parts(tasks, sources, draws, row_of)))


class _RowOf:
    """Table row of (source, text id): a binary search per source."""

    def __init__(self) -> None:
        self._sorted: dict[int, tuple[np.ndarray, np.ndarray]] = {}

    def add(self, source: int, text_id: np.ndarray, row: np.ndarray) -> None:
        self._sorted[source] = (text_id, row)

    def __call__(self, source: int, text_id: np.ndarray) -> np.ndarray:
        known, row = self._sorted[source]
        if not len(known):  # nothing but padding
            return np.full_like(text_id, -1)
        return np.where(text_id >= 0, row[np.searchsorted(known, np.maximum(text_id, known[0]))], -1)


def _unique_texts(sources: Sequence[TextSource], draws: Sequence[Draw]) -> tuple[StepTexts, _RowOf]:
    """Texts are one when their token ids are equal after prompt and truncation."""
    ids = [pair for draw in draws for pair in draw.text_ids()]
    source_X = np.concatenate([np.full(len(i), source, dtype=np.int32) for source, i in ids])
    hash_X = np.concatenate([sources[source].data.token_hash_G[i] for source, i in ids])
    length_X = np.concatenate([sources[source].data.length_G[i] for source, i in ids])
    _, first, inverse = np.unique(hash_X, return_index=True, return_inverse=True)
    by_occurrence = np.argsort(first)
    row_of_unique = np.empty(len(first), dtype=np.int64)
    row_of_unique[by_occurrence] = np.arange(len(first))
    kept = first[by_occurrence]
    row_of, start = _RowOf(), 0
    for source, i in ids:
        row_of.add(source, i, row_of_unique[inverse[start : start + len(i)]])
        start += len(i)
    text_X = np.concatenate([i for _, i in ids])
    return StepTexts(source_X[kept], text_X[kept], length_X[kept].astype(np.int64)), row_of


def _parts(
    tasks: Sequence[Task], sources: Sequence[TextSource], draws: Sequence[Draw], row_of: _RowOf
) -> list[QueryPart | PairPart]:
    contrastive = [draw for draw in draws if tasks[draw.task].config.kind != "sts"]
    parts: list[QueryPart | PairPart] = []
    for draw in draws:
        if tasks[draw.task].config.kind == "sts":
            parts.append(_cosent_part(tasks[draw.task], draw, row_of))
        else:
            step_scope = tasks[draw.task].config.scope == "step"
            parts.append(_info_nce_part(tasks, sources, draw, contrastive if step_scope else [draw], row_of))
    return parts


def _cosent_part(task: Task, draw: Draw, row_of: _RowOf) -> PairPart:
    assert task.data.score_R is not None
    return PairPart(
        task=task.config.name,
        row_S=draw.row_B,
        text1_S=row_of(draw.task, draw.query_B),
        text2_S=row_of(draw.task, draw.positive_BP[:, 0]),
        score_S=np.asarray(task.data.score_R[draw.row_B], dtype=np.float32),
    )


def _info_nce_part(
    tasks: Sequence[Task], sources: Sequence[TextSource], draw: Draw, present: Sequence[Draw], row_of: _RowOf
) -> QueryPart:
    """`present` are the draws whose documents stand in this task's table; a text counts once as a document.

    With the queries joined in (`negatives.same_tower`), a query itself is among those excluded for it.
    """
    documents = [pair for other in present for pair in other.document_ids()]
    joined = tasks[draw.task].config.negatives.same_tower in ("queries", "both")
    queries = [(other.task, np.unique(other.query_B)) for other in present] if joined else []
    row_P, hash_P = _rows_and_hashes(sources, row_of, documents + queries)
    document_N = np.unique(row_P)
    positive_BP = _places(document_N, row_of(draw.task, draw.positive_BP))
    negative_BM = _places(document_N, row_of(draw.negative_source, draw.negative_BM))
    all_data, data = [task.data for task in tasks], tasks[draw.task].data
    table = (draw.query_B, hash_P, np.searchsorted(document_N, row_P))
    if tasks[draw.task].config.scope == "own":  # nothing else stands in the query's denominator
        owner, document = known_positives_among(all_data, data, *table, negative_BM)
    else:
        owner, document = known_positive_pairs(all_data, data, *table)
    if joined:
        row_Q, hash_Q = _rows_and_hashes(sources, row_of, queries)
        same = same_meaning_pairs(all_data, data.text_hash_G[draw.query_B], hash_Q, np.searchsorted(document_N, row_Q))
        owner, document = merge_pairs((owner, document), same)
    own_positive = (document[:, None] == positive_BP[owner]).any(1)
    positive_score_BP, negative_score_BM = _scores(tasks[draw.task], draw)
    return QueryPart(
        task=tasks[draw.task].config.name,
        row_B=draw.row_B,
        query_B=row_of(draw.task, draw.query_B),
        document_N=document_N,
        positive_BP=positive_BP,
        negative_BM=negative_BM,
        rank_BM=draw.rank_BM,
        excluded_BX=RaggedLists.of_pairs(owner[~own_positive], document[~own_positive], len(draw.row_B)),
        scope=tasks[draw.task].config.scope,
        positive_score_BP=positive_score_BP,
        negative_score_BM=negative_score_BM,
    )


def _rows_and_hashes(
    sources: Sequence[TextSource], row_of: _RowOf, texts: Sequence[tuple[int, np.ndarray]]
) -> tuple[np.ndarray, np.ndarray]:
    """Table row and hash of the raw text of every (source, text ids)."""
    row_P = np.concatenate([row_of(source, ids) for source, ids in texts])
    return row_P, np.concatenate([sources[source].data.text_hash_G[ids] for source, ids in texts])


def _places(document_N: np.ndarray, row_BM: np.ndarray) -> np.ndarray:
    """Where rows of the table stand among the documents, -1 stays."""
    return np.where(row_BM >= 0, np.searchsorted(document_N, row_BM), -1)


def _scores(task: Task, draw: Draw) -> tuple[np.ndarray | None, np.ndarray | None]:
    """The ranker's scores of the sampled positives and negatives, if a loss of the task asks for them."""
    if not task.config.distillation_losses:
        return None, None
    score_G = task.data.document_score_G
    assert score_G is not None
    assert draw.negative_source == draw.task
    positive_score_BP, negative_score_BM = (
        np.where(text_BM >= 0, score_G[np.maximum(text_BM, 0)], np.nan).astype(np.float32)
        for text_BM in (draw.positive_BP, draw.negative_BM)
    )
    return positive_score_BP, negative_score_BM
