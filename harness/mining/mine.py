"""`harness mine`: ranks the documents of a corpus for every training query and writes the result as a bank.

The candidates of a query do not include its known positives (of any row with the same query), nor documents that are
one text with a known positive or with the query, which encode alike (`harness/data/table/identity.py`). No two
candidates encode alike. On request they do not include documents that are so similar to the positive that they may be
unlabelled positives. The bank starts with the best candidate; a run chooses the first rank that it uses as a negative
(`negatives.offset`).
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from harness import comm, rank0
from harness.data.bank.file import FACTS, BankFacts
from harness.data.table.index import TaskData
from harness.mining.bank_writer import BankWriter
from harness.mining.cross_encoder.judge import Limits
from harness.mining.cross_encoder.rescore import Rescoring, Searched, rescore
from harness.mining.mined_texts import MinedTexts, mined_texts
from harness.ownership.claim import UNFINISHED, OutputFolder, is_unfinished
from harness.prompts import Prompts
from harness.search.approximate import FaissSearch, recall_on_sample
from harness.search.block_store import BlockStore
from harness.search.embeddings import Progress, TableEmbeddings
from harness.search.encode import Encode
from harness.search.exact import ExactSearch
from harness.search.request import CorpusShard, SearchRequest, ShardSearch
from harness.search.scores import false_negative_limit, lowest_scores
from harness.search.top_k import candidate_blocks, shard_of

WORK_FOLDER = "work"  # intermediate results of an unfinished bank, inside the bank's folder


@dataclass(frozen=True, slots=True)
class MineSettings:
    """How many candidates to keep per query, which scores are too high for a safe negative, and how to search.

    relative, margin: keep a candidate with score s if s < p - (1 - relative) * |p| and s < p - margin. p is the lowest
    score of the query's known positives (NV-Retriever, arXiv 2407.15831, uses relative = 0.95).
    index: `exact`, or an approximate FAISS index, used for more than `index_above` documents (see `FaissSearch`).
    """

    num_candidates: int = 100
    relative: float | None = None
    margin: float | None = None
    index: Literal["exact", "ivf", "hnsw"] = "exact"
    index_above: int = 1_000_000


def mine(
    encode: Encode,
    data: TaskData,
    corpus: TaskData | None,
    settings: MineSettings,
    out: Path,
    prompts: Prompts,
    ranked_by: dict[str, Any],
    progress: Progress = lambda stage, done, of: None,
    rescoring: Rescoring | None = None,
) -> BankFacts:
    """Write the bank of `data` to `out`; a search that was killed is continued. Every rank must call this.

    encode: encodes texts that already start with their prompts. prompts: by role; a row's own prompt replaces the one
    of its query. ranked_by: everything that the embeddings depend on (model, weights, pooling, tokenizer,
    prompts, lengths), for bank.json. rescoring: a cross-encoder ranks the candidates that the search has found, and its
    scores, in place of theirs, say which are likely positives; see `harness.mining.cross_encoder.rescore`.
    """
    texts, work = mined_texts(data, corpus), out / WORK_FOLDER
    documents = data if corpus is None else corpus
    key = {"data": data.content_hash, "corpus": documents.content_hash, **ranked_by}
    embed = TableEmbeddings(encode, prompts, work, key, progress)
    # A cross-encoder's scores decide what is too near to a positive, so that nothing is left out before it has scored.
    searching = settings if rescoring is None else replace(settings, relative=None, margin=None)
    search, index = _search(searching, embed, data, documents, texts)
    store = BlockStore(work / "search", {**key, **asdict(searching)})
    writer = BankWriter(out, texts, settings.num_candidates) if comm.is_main() else None
    # What a cross-encoder will rank stays in the store until it has.
    _search_into(writer if rescoring is None else None, search, store, len(texts.query_id_Q), progress)
    facts = _facts(data, corpus, settings, ranked_by, search={"index": index, "recall": _recall(search, index)})
    if rescoring is not None:
        limits = Limits(settings.relative, settings.margin, rescoring.relabel)
        searched = Searched(data, documents, texts, settings.num_candidates, store, {**key, **asdict(searching)})
        facts = rescoring.facts(facts, rescore(rescoring.scorer, limits, searched, writer, work, progress))
    rank0.by_main(lambda: _finish(writer, facts, work))
    return facts


def _search(
    settings: MineSettings, embed: TableEmbeddings, data: TaskData, documents: TaskData, texts: MinedTexts
) -> tuple[ShardSearch, str]:
    """The search for the candidates of all queries, and its index."""
    query_QD = torch.from_numpy(embed("queries", data, texts.query_id_Q, "query"))
    document_CD = embed("documents", documents, texts.document_id_C, "document")
    index = settings.index if len(document_CD) > settings.index_above else "exact"
    shard = shard_of(document_CD, comm.device() if index == "exact" else torch.device("cpu"))
    highest_Q = _highest_safe_scores(settings, embed, data, texts, query_QD, shard)
    request = SearchRequest(query_QD, shard, settings.num_candidates, texts.excluded_pairs, highest_Q)
    return (ExactSearch(request), index) if index == "exact" else (FaissSearch(request, index), index)


def _recall(search: ShardSearch, index: str) -> float:
    return 1.0 if index == "exact" else recall_on_sample(search)


def _finish(writer: BankWriter | None, facts: BankFacts, work: Path) -> None:
    assert writer is not None  # rank 0 has it
    writer.finish(facts)
    shutil.rmtree(work)


def _highest_safe_scores(
    settings: MineSettings,
    embed: TableEmbeddings,
    data: TaskData,
    texts: MinedTexts,
    query_QD: Tensor,
    shard: CorpusShard,
) -> np.ndarray | None:
    """Per query, the score that candidates must stay below, float32 [Q]; None: no limit. Every rank must call this."""
    if settings.relative is None and settings.margin is None:
        return None
    lowest_Q = lowest_scores(query_QD, shard, texts.positive_pairs)
    if len(texts.missing_positive_id_E):
        id_U, place_E = np.unique(texts.missing_positive_id_E, return_inverse=True)
        missing = shard_of(embed("positives", data, id_U, "document"), shard.row_CD.device)
        missing_pairs = (texts.missing_positive_query_E, place_E)
        lowest_Q = np.minimum(lowest_Q, lowest_scores(query_QD, missing, missing_pairs))
    return false_negative_limit(lowest_Q, relative=settings.relative, margin=settings.margin)


def _search_into(
    writer: BankWriter | None, search: ShardSearch, store: BlockStore, num_queries: int, progress: Progress
) -> None:
    """Search one block of queries after the other on all ranks; rank 0 writes the results, if it has a writer."""
    for first, result in candidate_blocks(
        search, store=store, progress=lambda done: progress("searching", done, num_queries)
    ):
        if writer is not None:
            writer.add(first, result.index_QK, result.score_QK)


def _facts(
    data: TaskData, corpus: TaskData | None, settings: MineSettings, ranked_by: dict[str, Any], search: dict[str, Any]
) -> BankFacts:
    """The content of bank.json."""
    return BankFacts(
        data_hash=data.content_hash,
        corpus=None if corpus is None else corpus.path,
        corpus_hash=(data if corpus is None else corpus).content_hash,
        num_candidates=settings.num_candidates,
        ranked_by=ranked_by,
        filters={"relative": settings.relative, "margin": settings.margin},
        search=search,
    )


def refuse_finished(out: Path) -> None:
    """Refuse a folder `out` that holds a finished bank; first remove the intermediate results that it still contains.

    Raises:
        ValueError: on every rank, if `out` holds a finished bank.
    """

    def check() -> None:
        if (out / FACTS).exists():
            if is_unfinished(out, "mine"):  # killed between its last two files
                shutil.rmtree(out / WORK_FOLDER, ignore_errors=True)
                (out / UNFINISHED).unlink()
            raise ValueError(f"--out: got {out}, which holds a finished bank, expected a new folder")

    rank0.by_main(check)


def output_folder(out: Path, say: Callable[[str], None]) -> OutputFolder:
    """Where `harness mine` writes: a new folder, or one that a killed start has begun to fill."""
    return OutputFolder(out, "--out", "an unfinished bank", lambda folder: is_unfinished(folder, "mine"), say)
