"""Evaluation of a retrieval data set: from the files to the scores, with vectors computed from the texts' numbers."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from benchmarks.growth.row import Row
from benchmarks.runner.on_ranks import Cost, measured, on_ranks

DOCUMENTS, QUERIES, DIMS = 200_000, 1000, 384
PREFIXES = (96, 192)  # Matryoshka dims that are scored, too
RANKS = 2
_WORDS_IN_TEXT = 60
_LARGEST = 8_841_823, 6_980, 1024, 8  # MS MARCO's passages and queries, dims, ranks
_LARGEST_BYTES = 16 * 10**9


def rows(scale: float = 1.0) -> list[Row]:
    """The data set on two ranks, and the bytes that the largest one takes on each of eight ranks, by arithmetic.

    scale: of the number of documents.
    """
    from harness.search.cosine import search_bytes

    count = int(DOCUMENTS * scale)
    with tempfile.TemporaryDirectory() as folder:
        write_data(Path(folder) / "data", count)
        results = on_ranks(RANKS, evaluated, folder)
    cost = Cost(
        max(one.seconds for one, _ in results),
        sum(one.cpu_seconds for one, _ in results),
        max(one.peak_bytes for one, _ in results),
    )
    grown = max(grown for _, grown in results)
    bound = search_bytes(count, QUERIES, DIMS, RANKS, 100) + 400 * 2**20
    size = f"{count:,} documents x {DIMS}, {QUERIES:,} queries, {len(PREFIXES) + 1} dims, {RANKS} ranks"
    size += f": a rank's peak grew by {grown / 2**20:,.0f} MiB"
    goal = f"grows by <= search_bytes + 400 MiB = {bound / 2**20:,.0f} MiB"
    needed = search_bytes(*_LARGEST, 101)
    documents, queries, dims, ranks = _LARGEST
    largest = f"{documents:,} documents x {dims}, {queries:,} queries, {ranks} ranks: by arithmetic, for each rank"
    return [
        Row("evaluation", size, cost.seconds, cost.cpu_seconds, cost.peak_bytes, goal, grown <= bound),
        Row("evaluation", largest, None, None, needed, "<= 16 GB a rank", needed <= _LARGEST_BYTES),
    ]


def write_data(folder: Path, count: int) -> None:
    """A BEIR folder: query i is judged to have document i."""
    (folder / "qrels").mkdir(parents=True)
    words = " ".join(["word"] * _WORDS_IN_TEXT)
    with (folder / "corpus.jsonl").open("w") as corpus:
        corpus.writelines(json.dumps({"_id": f"d{i}", "text": f"{words} {i}"}) + "\n" for i in range(count))
    with (folder / "queries.jsonl").open("w") as queries:
        queries.writelines(json.dumps({"_id": f"q{i}", "text": f"query {i}"}) + "\n" for i in range(QUERIES))
    judgements = "".join(f"q{i}\td{i}\t1\n" for i in range(QUERIES))
    (folder / "qrels" / "test.tsv").write_text(f"query-id\tcorpus-id\tscore\n{judgements}")


def vectors(texts: Sequence[str], role: str = "") -> np.ndarray:
    """Pseudo-random float32 [N, DIMS] of the number at the end of each text; a query's are a document's with noise."""
    table_ND = np.empty((len(texts), DIMS), dtype=np.float32)
    for i, text in enumerate(texts):
        number = int(text.rsplit(" ", 1)[1])
        table_ND[i] = np.random.Generator(np.random.SFC64(number)).standard_normal(DIMS, np.float32)
        if text.startswith("query"):
            table_ND[i] += 2 * np.random.Generator(np.random.SFC64(-number % 2**32)).standard_normal(DIMS, np.float32)
    return table_ND


def evaluated(folder: str) -> tuple[Cost, int]:
    """Runs on a rank: (the cost, by how many bytes the largest resident memory grew)."""
    os.environ["XDG_CACHE_HOME"] = folder  # where the documents are kept
    from harness.evaluation.runner import evaluate

    with measured() as before:
        pass
    with measured() as cost:
        results = evaluate(vectors, [f"{folder}/data"], PREFIXES)
    assert results["data"]["ndcg_at_10"] > 0.3, results
    return cost, cost.peak_bytes - before.peak_bytes
