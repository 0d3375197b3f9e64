"""Turns the result of a search into a bank that a cross-encoder has ranked, an audit file, and rows to distil.

Beside the bank of the negatives that stay, by falling score of the cross-encoder, the folder then has

audit.jsonl      a line for every candidate that is no negative any more: what was changed, and why
train.jsonl.gz   the training rows with `neg`, `neg_scores`, `pos`, `pos_scores`, relabelled positives among the last
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import IO, Any

import numpy as np

from harness import rank0
from harness.data.bank.file import BankFacts
from harness.data.table.index import TaskData
from harness.data.table.npy import create_array, open_array
from harness.files import replace_file
from harness.mining.bank_writer import BankWriter
from harness.mining.cross_encoder.audit import Audit
from harness.mining.cross_encoder.judge import Change, Limits, judge
from harness.mining.cross_encoder.pairs import Lists, ListsAt, ScoredTexts, score_lists
from harness.mining.cross_encoder.scorer import CrossEncoderScorer
from harness.mining.cross_encoder.training_rows import TrainingRows
from harness.mining.mined_texts import MinedTexts
from harness.search.block_store import BlockStore
from harness.search.embeddings import Progress

AUDIT = "audit.jsonl"
FOUND_DOCUMENTS, FOUND_SIMILARITIES = "found_documents.npy", "found_similarities.npy"


@dataclass(frozen=True, slots=True)
class Rescoring:
    """A cross-encoder for the candidates. relabel: see `Limits`."""

    scorer: CrossEncoderScorer
    relabel: float | None = None

    def facts(self, facts: BankFacts, counts: dict[str, int]) -> BankFacts:
        """The content of bank.json with what the cross-encoder has done."""
        return replace(
            facts,
            ranked_by={**facts.ranked_by, "cross_encoder": self.scorer.identity},
            filters={**facts.filters, "relabel": self.relabel},
            search={**facts.search, "cross_encoder": counts},
        )


@dataclass(frozen=True, slots=True)
class Searched:
    """What a search was made of, and where its results lie."""

    data: TaskData
    documents: TaskData
    texts: MinedTexts
    num_candidates: int
    store: BlockStore  # rank 0 reads it
    key: Mapping[str, Any]  # everything that the candidates depend on


def rescore(
    scorer: CrossEncoderScorer,
    limits: Limits,
    searched: Searched,
    writer: BankWriter | None,
    work: Path,
    progress: Progress,
) -> dict[str, int]:
    """Score all candidates and known positives, and write the files of the bank's folder but bank.json.

    Every rank must call it. writer: rank 0 has it. Returns the numbers of scored, dropped and
    relabelled pairs, and of how many queries the best known positive scores above all candidates.
    """
    texts, width = searched.texts, searched.num_candidates
    pairs = ScoredTexts(searched.data, searched.documents, texts.query_id_Q, texts.document_id_C)
    num_queries, (query_E, positive_E) = len(texts.query_id_Q), texts.known_positives
    rank0.by_main(lambda: _write_found(searched.store, work, num_queries, width))

    def positives_at(first: int, stop: int) -> Lists:
        return query_E[first:stop], positive_E[first:stop, None]

    def candidates_at(first: int, stop: int) -> Lists:
        return np.arange(first, stop), np.array(open_array(work / FOUND_DOCUMENTS)[first:stop])

    def scores(stage: str, rows: int, width: int, lists: ListsAt, *, positives: bool) -> BlockStore:
        done = partial(progress, f"scoring {stage}")
        folder, key = work / f"scored_{stage}", searched.key
        block = lambda now: done(now, rows)  # noqa: E731
        return score_lists(scorer, pairs, folder, key, rows, width, lists, block, positives=positives)

    of_positives = scores("positives", len(query_E), 1, positives_at, positives=True)
    of_candidates = scores("candidates", num_queries, width, candidates_at, positives=False)
    return rank0.by_main(lambda: _write(limits, searched, of_positives, of_candidates, writer, work))


def _write_found(store: BlockStore, work: Path, num_queries: int, width: int) -> None:
    """Gather the blocks of the search in two arrays on disk: the documents and their similarities."""
    document_QK = create_array(work / FOUND_DOCUMENTS, np.int64, (num_queries, width))
    similarity_QK = create_array(work / FOUND_SIMILARITIES, np.float32, (num_queries, width))
    for first, block in store.blocks():
        rows = slice(first, first + len(block))
        document_QK[rows], similarity_QK[rows] = block.index_QK, block.score_QK


def _write(
    limits: Limits,
    searched: Searched,
    of_positives: BlockStore,
    of_candidates: BlockStore,
    writer: BankWriter | None,
    work: Path,
) -> dict[str, int]:
    """Judge every candidate; write the bank's arrays, the audit file and the rows to distil. On rank 0."""
    assert writer is not None
    texts, out = searched.texts, writer.out
    query_E, positive_E = texts.known_positives
    score_E = np.concatenate([np.empty(0, np.float32), *(block.score_QK[:, 0] for _, block in of_positives.blocks())])
    lowest_Q, highest_Q = (np.full(len(texts.query_id_Q), sign * np.inf, dtype=np.float32) for sign in (1, -1))
    np.minimum.at(lowest_Q, query_E, score_E)
    np.maximum.at(highest_Q, query_E, score_E)
    similarity_QK, counts = open_array(work / FOUND_SIMILARITIES), dict.fromkeys((*Change, "positive_first"), 0)
    relabelled: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []

    def judge_blocks(stream: IO[bytes]) -> None:
        audit = Audit(stream, searched.data, searched.documents, texts)
        for first, block in of_candidates.blocks():
            rows = slice(first, first + len(block))
            judged = judge(block.index_QK, block.score_QK, lowest_Q[rows], highest_Q[rows], limits)
            writer.add(first, judged.document_QK, judged.score_QK)
            audit.add(first, block, np.asarray(similarity_QK[rows]), judged, lowest_Q[rows], highest_Q[rows])
            query, column = np.nonzero(judged.change_QK == Change.RELABELLED)
            relabelled.append((first + query, block.index_QK[query, column], block.score_QK[query, column]))
            best_Q = np.where(block.index_QK >= 0, block.score_QK, -np.inf).max(axis=1, initial=-np.inf)
            counts["positive_first"] += int((highest_Q[rows] > best_Q).sum())  # a tie is no knowledge
            for change in Change:
                counts[change] += int(((judged.change_QK == change) & (block.index_QK >= 0)).sum())

    replace_file(out / AUDIT, judge_blocks)
    writer.flush()
    TrainingRows(out, searched.data, searched.documents, texts, (query_E, positive_E, score_E), relabelled).write()
    changed = {"dropped": counts[Change.DROPPED], "relabelled": counts[Change.RELABELLED]}
    scored = sum(counts[change] for change in Change)
    return {"scored": scored, **changed, "queries": len(lowest_Q), "positive_first": counts["positive_first"]}
