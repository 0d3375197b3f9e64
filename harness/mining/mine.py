"""`harness mine`: rank a corpus for every training query and write the result as a bank.

Candidates leave out the query's known positives (of any row with the same query text), documents equal to them or to
the query, and on request those so near the positive that they may be unlabelled positives. Ranks are unskipped: how
many of the first to pass over is the offset of a run's window.
"""

from __future__ import annotations

import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from harness import comm
from harness.data.bank.file import FACTS, BankFacts
from harness.data.config import PromptsConfig
from harness.data.ragged import expand_ranges
from harness.data.table.index import TaskData
from harness.search.approximate import FaissSearch, recall_on_sample
from harness.search.block_store import BlockStore
from harness.search.embeddings import Progress, TableEmbeddings
from harness.search.encode import Encode
from harness.search.exact import ExactSearch
from harness.search.request import Pairs, SearchRequest, ShardSearch
from harness.search.scores import false_negative_limit, lowest_scores
from harness.search.top_k import candidate_blocks, shard_of
from harness.search.unique_texts import positions_in, unique_texts
from harness.types import ROLES

WORK_FOLDER = "work"  # of an unfinished bank


@dataclass(frozen=True, slots=True)
class MineSettings:
    """How many candidates per query, which are too near the positive to be safe negatives, and how to search.

    index: exact; or, for more than `index_above` documents, an approximate one of FAISS (see `FaissSearch`).
    """

    num_candidates: int = 100
    relative: float | None = None  # keep s < relative * s(positive), sign-safe (NV-Retriever's TopK-PercPos: 0.95)
    margin: float | None = None  # keep s < s(positive) - margin
    index: Literal["exact", "ivf", "hnsw"] = "exact"
    index_above: int = 1_000_000


@dataclass(frozen=True, slots=True)
class _Sides:
    """Each query text once, each document text once, as they come. `inverse_R`: the query of a training row."""

    query_id_Q: np.ndarray
    inverse_R: np.ndarray
    document_id_C: np.ndarray
    positive: Pairs  # (query, document) of known positives that stand in the corpus
    equal: Pairs  # (query, document) with one text
    missing_positive_id_E: np.ndarray  # text ids of known positives that do not
    missing_positive_owner_E: np.ndarray


def mine(
    encode: Encode,
    data: TaskData,
    corpus: TaskData | None,
    settings: MineSettings,
    out: Path,
    prompts: PromptsConfig,
    ranked_by: dict[str, Any],
    progress: Progress = lambda stage, done, of: None,
) -> BankFacts:
    """Write the bank of `data` to `out`; a start that was killed is continued. Every rank calls it.

    encode: takes texts with their prompts before them. prompts: a query row's own instruction goes before these.
    ranked_by: what the embeddings depend on (model, weights, pooling, prompts, lengths), for bank.json.
    """
    table = data if corpus is None else corpus
    sides = _sides(data, corpus)
    key = {"data": data.content_hash, "corpus": table.content_hash, **ranked_by}
    work = out / WORK_FOLDER
    embed = TableEmbeddings(encode, prompts, work, key, progress)
    query = torch.from_numpy(embed("queries", data, sides.query_id_Q, "query"))
    document_CD = embed("documents", table, sides.document_id_C, "document")
    index = settings.index if len(document_CD) > settings.index_above else "exact"
    shard = shard_of(document_CD, comm.device() if index == "exact" else torch.device("cpu"))
    highest_Q = None
    if settings.relative is not None or settings.margin is not None:
        lowest_Q = lowest_scores(query, shard, sides.positive)
        if len(sides.missing_positive_id_E):
            id_U, entry_E = np.unique(sides.missing_positive_id_E, return_inverse=True)
            missing = shard_of(embed("positives", data, id_U, "document"), shard.row_CD.device)
            lowest_Q = np.minimum(lowest_Q, lowest_scores(query, missing, (sides.missing_positive_owner_E, entry_E)))
        highest_Q = false_negative_limit(lowest_Q, relative=settings.relative, margin=settings.margin)
    excluded = tuple(np.concatenate(pair) for pair in zip(sides.positive, sides.equal, strict=True))
    request = SearchRequest(query, shard, settings.num_candidates, excluded, highest_Q)  # type: ignore[arg-type]
    store = BlockStore(work / "search", {**key, **asdict(settings)})
    search: ShardSearch = ExactSearch(request) if index == "exact" else FaissSearch(request, index)
    num_queries = len(sides.query_id_Q)
    writer = _BankWriter(out, sides, settings.num_candidates) if comm.is_main() else None
    for first, found in candidate_blocks(
        search, store=store, progress=lambda done: progress("searching", done, num_queries)
    ):
        assert writer is not None
        writer.add(first, found.index_QK, found.score_QK)
    facts = BankFacts(
        data_hash=data.content_hash,
        corpus=None if corpus is None else corpus.path,
        corpus_hash=table.content_hash,
        num_candidates=settings.num_candidates,
        ranked_by=ranked_by,
        filters={"relative": settings.relative, "margin": settings.margin},
        search={"index": index, "recall": 1.0 if index == "exact" else recall_on_sample(search)},
    )
    if writer is not None:
        writer.finish(facts)
        shutil.rmtree(work)
    comm.barrier()
    return facts


def refuse_finished(out: Path) -> None:
    """Raise on every rank if `out` holds a finished bank. Work left by a start that was killed at its end is removed.

    Raises:
        ValueError: it does.
    """
    is_finished = comm.broadcast_object((out / FACTS).exists() if comm.is_main() else None)
    if is_finished and comm.is_main():
        shutil.rmtree(out / WORK_FOLDER, ignore_errors=True)
    if is_finished:
        raise ValueError(f"--out: got {out}, which holds a finished bank, expected a new folder")


def _sides(data: TaskData, corpus: TaskData | None) -> _Sides:
    query_id_R = np.asarray(data.row_start_R1[:-1])
    first_row_Q, inverse_R = unique_texts(data.text_hash_G[query_id_R])
    query_id_Q = query_id_R[first_row_Q]
    table = data if corpus is None else corpus
    id_X = np.flatnonzero(np.asarray(table.role_G) == ROLES.index("document"))
    document_id_C = id_X[unique_texts(table.text_hash_G[id_X])[0]]
    first = query_id_R + 1
    row_E, positive_id_E = expand_ranges(first, first + data.num_positives_R)
    owner_E = inverse_R[row_E]
    hash_C = table.text_hash_G[document_id_C]
    place_E = positions_in(hash_C, data.text_hash_G[positive_id_E])
    place_Q = positions_in(hash_C, data.text_hash_G[query_id_Q])
    there_E, equal_Q = place_E >= 0, np.flatnonzero(place_Q >= 0)
    return _Sides(
        query_id_Q=query_id_Q,
        inverse_R=inverse_R,
        document_id_C=document_id_C,
        positive=(owner_E[there_E], place_E[there_E]),
        equal=(equal_Q, place_Q[equal_Q]),
        missing_positive_id_E=positive_id_E[~there_E],
        missing_positive_owner_E=owner_E[~there_E],
    )


class _BankWriter:
    """Spreads the candidates of each query text over the training rows that ask it."""

    def __init__(self, out: Path, sides: _Sides, num_candidates: int) -> None:
        self.out, self.document_id_C = out, sides.document_id_C
        num_rows = len(sides.inverse_R)
        self._row_by_query = np.argsort(sides.inverse_R, kind="stable")
        self._start_Q1 = np.searchsorted(sides.inverse_R[self._row_by_query], np.arange(len(sides.query_id_Q) + 1))
        wide = len(sides.document_id_C) and int(sides.document_id_C.max()) >= 2**31
        shape, create = (num_rows, num_candidates), np.lib.format.open_memmap
        self._candidate = create(out / "candidate_RC.npy", mode="w+", dtype=np.int64 if wide else np.int32, shape=shape)
        self._score = create(out / "score_RC.npy", mode="w+", dtype=np.float32, shape=shape)
        self._count = create(out / "count_R.npy", mode="w+", dtype=np.int32, shape=(num_rows,))

    def add(self, first: int, index_QK: np.ndarray, score_QK: np.ndarray) -> None:
        start_Q, stop_Q = self._start_Q1[first : first + len(index_QK)], self._start_Q1[first + 1 :][: len(index_QK)]
        query_E, place_E = expand_ranges(start_Q, stop_Q)
        row_E, found_EK = self._row_by_query[place_E], index_QK[query_E]
        self._candidate[row_E] = np.where(found_EK >= 0, self.document_id_C[np.maximum(found_EK, 0)], -1)
        self._score[row_E] = np.where(found_EK >= 0, score_QK[query_E], np.nan)
        self._count[row_E] = (found_EK >= 0).sum(axis=1)

    def finish(self, facts: BankFacts) -> None:
        for array in (self._candidate, self._score, self._count):
            array.flush()
        facts.write(self.out)
