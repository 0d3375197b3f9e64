"""Computes the plan of a step from tasks, seed and step number: its unique texts, and how each task refers to them.

Every rank computes the same plan, whatever the number of ranks. The plan needs only memory-mapped arrays: no text is
read, and there is no data loader whose state must be stored. A resumed run needs only the step number and the banks of
negatives.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from harness.data.distinct import distinct, merge_pairs, pairs_among
from harness.data.plan.draw import DrawnExamples, draw_examples
from harness.data.plan.known_positives import (
    NO_LINKS,
    known_positive_pairs,
    known_positives_among,
    same_meaning_pairs,
)
from harness.data.plan.task import Task, TextSource, text_sources
from harness.data.table.identity import TextKeys
from harness.types import ROLES, Balance, PairPart, QueryPart, RaggedLists, StepPlan, StepTexts, TeacherRows


def plan(tasks: Sequence[Task], *, seed: int, step: int, balance: Balance = "cbb") -> StepPlan:
    """The plan of the step number `step` (the first step is 1).

    balance: which tasks a step holds, and how many examples of each; see `draw_examples`.
    """
    drawn = draw_examples(tasks, seed=seed, step=step, balance=balance)
    texts, lookup = _unique_texts(text_sources(tasks), drawn)
    return StepPlan(step, texts, tuple(_parts(tasks, drawn, lookup)))


class _TextLookup:
    """Maps each drawn text to its row in the step's embedding table and to the hashes that tell texts apart."""

    def __init__(self, sources: Sequence[TextSource]) -> None:
        self._sources = sources
        self._rows_of_source: dict[int, tuple[np.ndarray, np.ndarray]] = {}  # text ids (ascending), rows of these texts

    def add(self, source: int, text_id: np.ndarray, row: np.ndarray) -> None:
        """Store the rows of a source's texts; `text_id` must be ascending."""
        self._rows_of_source[source] = (text_id, row)

    def rows(self, source: int, text_id: np.ndarray) -> np.ndarray:
        """The rows of texts that were added, in the shape of `text_id`; -1 where the id is -1 (padding)."""
        added_id, row = self._rows_of_source[source]
        if not len(added_id):  # `text_id` holds only padding
            return np.full_like(text_id, -1)
        return np.where(text_id >= 0, row[np.searchsorted(added_id, np.maximum(text_id, added_id[0]))], -1)

    def rows_and_keys(self, texts: Sequence[tuple[int, np.ndarray]]) -> tuple[np.ndarray, TextKeys]:
        """The row and the hashes of every text in a list of (source, text ids)."""
        row_E = np.concatenate([self.rows(source, ids) for source, ids in texts])
        return row_E, TextKeys.concatenate([self._sources[source].data.keys(ids) for source, ids in texts])


def _unique_texts(sources: Sequence[TextSource], drawn: Sequence[DrawnExamples]) -> tuple[StepTexts, _TextLookup]:
    """The distinct texts of the step, in the order of their first occurrence, and a lookup of each drawn text's row.

    Two texts count as one if their token ids are equal after prompt and truncation.
    """
    texts = [source_and_ids for examples in drawn for source_and_ids in examples.text_ids()]
    source_E = np.concatenate([np.full(len(ids), source, dtype=np.int32) for source, ids in texts])
    text_E = np.concatenate([ids for _, ids in texts])
    hash_E = np.concatenate([sources[source].data.token_hash_G[ids] for source, ids in texts])
    length_E = np.concatenate([sources[source].data.length_G[ids] for source, ids in texts])
    _, first_U, unique_E = np.unique(hash_E, return_index=True, return_inverse=True)
    by_occurrence_T = np.argsort(first_U)
    row_U = np.empty(len(first_U), dtype=np.int64)
    row_U[by_occurrence_T] = np.arange(len(first_U))
    lookup, start = _TextLookup(sources), 0
    for source, ids in texts:
        lookup.add(source, ids, row_U[unique_E[start : start + len(ids)]])
        start += len(ids)
    first_T = first_U[by_occurrence_T]
    return StepTexts(source_E[first_T], text_E[first_T], length_E[first_T].astype(np.int64)), lookup


def _parts(
    tasks: Sequence[Task], drawn: Sequence[DrawnExamples], lookup: _TextLookup
) -> Iterator[QueryPart | PairPart]:
    links = _links(tasks, drawn, lookup)
    with_queries = [examples for examples in drawn if tasks[examples.task].config.kind != "sts"]
    for examples in drawn:
        config = tasks[examples.task].config
        if config.kind == "sts":
            yield _pair_part(tasks[examples.task], examples, lookup)
        else:
            compared = with_queries if config.scope == "step" else [examples]
            yield _query_part(tasks, examples, compared, lookup, links)


def _links(tasks: Sequence[Task], drawn: Sequence[DrawnExamples], lookup: _TextLookup) -> TextKeys:
    """The texts of the step if texts that read alike may encode differently; otherwise none, because none is needed."""
    encodings = {
        (task.prompt(role, None), task.max_length(role))
        for task in tasks
        for role in ROLES
        if role == "query" or task.config.kind == "retrieval"
    }
    if len(encodings) == 1:
        return NO_LINKS
    return lookup.rows_and_keys([source_and_ids for examples in drawn for source_and_ids in examples.text_ids()])[1]


def _pair_part(task: Task, examples: DrawnExamples, lookup: _TextLookup) -> PairPart:
    assert task.data.score_R is not None
    return PairPart(
        task=task.config.name,
        row_S=examples.row_B,
        text1_S=lookup.rows(examples.task, examples.query_B),
        text2_S=lookup.rows(examples.task, examples.positive_BP[:, 0]),
        score_S=np.asarray(task.data.score_R[examples.row_B], dtype=np.float32),
    )


def _query_part(
    tasks: Sequence[Task],
    examples: DrawnExamples,
    compared: Sequence[DrawnExamples],
    lookup: _TextLookup,
    links: TextKeys,
) -> QueryPart:
    """The queries of one task and the documents of `compared`: the task's own examples, or all examples of the step.

    A text is one document, however often it was drawn. With `query_tower` the queries of `compared` are documents too.
    """
    task = tasks[examples.task]
    documents = [source_and_ids for other in compared for source_and_ids in other.document_ids()]
    joining = compared if task.config.negatives.query_tower else []
    queries = [(other.task, distinct(other.query_B)) for other in joining]
    row_E, keys_E = lookup.rows_and_keys(documents + queries)
    positions = _Positions(distinct(row_E))
    positive_BP = positions.of(lookup.rows(examples.task, examples.positive_BP))
    negative_BM = positions.of(lookup.rows(examples.negative_source, examples.negative_BM))
    query, document = _known_positives(tasks, examples, keys_E, positions.of(row_E), negative_BM, links)
    if queries:  # a query has no negative that means the same, and so not itself
        row_Q, keys_Q = lookup.rows_and_keys(queries)
        keys_B = task.data.keys(examples.query_B)
        same = same_meaning_pairs([t.data for t in tasks], keys_B, keys_Q, positions.of(row_Q), links)
        query, document = merge_pairs((query, document), same)
    positive_score_BP, negative_score_BM = _ranker_scores(task, examples)
    return QueryPart(
        task=task.config.name,
        row_B=examples.row_B,
        query_B=lookup.rows(examples.task, examples.query_B),
        document_N=positions.document_N,
        positive_BP=positive_BP,
        negative_BM=negative_BM,
        rank_BM=examples.rank_BM,
        excluded_BX=_excluded(query, document, positive_BP),
        own_negatives_only=task.config.scope == "own",
        positive_score_BP=positive_score_BP,
        negative_score_BM=negative_score_BM,
        teacher=_teacher_rows(task, examples),
    )


def _excluded(query: np.ndarray, document: np.ndarray, positive_BP: np.ndarray) -> RaggedLists:
    """The lists of known positives, given as pairs, without the positives that are used in this step."""
    owner, column = np.nonzero(positive_BP >= 0)
    is_used = pairs_among(query, document, (owner, positive_BP[owner, column]))
    return RaggedLists.of_pairs(query[~is_used], document[~is_used], len(positive_BP))


class _Positions:
    """Tells the position of each table row among some documents."""

    def __init__(self, document_N: np.ndarray) -> None:
        self.document_N = document_N
        self._position_T1 = np.full(int(document_N.max(initial=-1)) + 2, -1)
        self._position_T1[document_N] = np.arange(len(document_N))

    def of(self, row_BM: np.ndarray) -> np.ndarray:
        """The position of each row, which must be a document's; -1 stays -1, because the last entry belongs to it."""
        return self._position_T1[row_BM]


def _known_positives(
    tasks: Sequence[Task],
    examples: DrawnExamples,
    keys_E: TextKeys,
    position_E: np.ndarray,
    negative_BM: np.ndarray,
    links: TextKeys,
) -> tuple[np.ndarray, np.ndarray]:
    """Pairs (query, document) in which the document is a known positive of the query.

    keys_E, position_E: the hashes and the position of every document text. With scope `own` a query is compared with
    its own negatives only, so only these are checked: pairing all texts of a label would give far too many pairs.
    """
    task, all_data = tasks[examples.task], [task.data for task in tasks]
    keys_B = task.data.keys(examples.query_B)
    if task.config.scope == "own":
        return known_positives_among(all_data, keys_B, keys_E, position_E, negative_BM, links)
    return known_positive_pairs(all_data, keys_B, keys_E, position_E, links)


def _ranker_scores(task: Task, examples: DrawnExamples) -> tuple[np.ndarray | None, np.ndarray | None]:
    """The ranker's scores of the drawn positives and negatives; (None, None) if no loss of the task needs them."""
    if not task.config.distillation_losses:
        return None, None
    score_G = task.data.document_score_G
    assert score_G is not None
    assert examples.negative_source == examples.task
    positive_score_BP, negative_score_BM = (
        np.where(text_BM >= 0, score_G[np.maximum(text_BM, 0)], np.nan).astype(np.float32)
        for text_BM in (examples.positive_BP, examples.negative_BM)
    )
    return positive_score_BP, negative_score_BM


def _teacher_rows(task: Task, examples: DrawnExamples) -> TeacherRows | None:
    """The teacher's vectors of the drawn examples; None if no loss of the task needs them."""
    if task.teacher is None:
        return None
    return task.teacher.of(task.data, examples.row_B, examples.positive_BP, examples.negative_BM)
