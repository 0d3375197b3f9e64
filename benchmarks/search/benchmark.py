"""Exact search for hard negatives beside sentence-transformers' `mine_hard_negatives(use_faiss=True)`, same data.

    pip install -c constraints.txt -e '.[mining]'        # FAISS, which their side needs
    python -m benchmarks.search [--queries 5000] [--documents 50000] [--dims 384] [--k 100] [--threads N] [--repeats 3]

Made-up normalised rows in clusters; each query has one known positive, which must not be found. Sides:

    ours      top_k, one process
    theirs    mine_hard_negatives with a model that only looks up these rows: search and what it does with the result
    flat      FAISS' IndexFlatIP alone, which theirs calls; the positive stays in

Every run has a process of its own, sides take turns, the best time and the highest memory count. Memory is ru_maxrss
above that of a process with the same imports and data that does nothing. Recall is counted against NumPy in float64.
Exit status 1: ours is below 1.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.runner import command_line

Search = tuple[Callable[[], Any], Callable[[Any], np.ndarray]]  # what is timed, and the rows [Q, k] in its result
SEED, ROWS_PER_CLUSTER, BLOCK = 0, 100, 256


def main() -> None:
    parser = command_line.parser(__doc__)
    parser.add_argument("--queries", type=int, default=5_000)
    parser.add_argument("--documents", type=int, default=50_000)
    parser.add_argument("--dims", type=int, default=384)
    parser.add_argument("--k", type=int, default=100)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--child", help=argparse.SUPPRESS)
    parser.add_argument("--idle", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child == "data":
        write_data(arguments)
    elif arguments.child:
        run_side(arguments)
    else:
        with tempfile.TemporaryDirectory() as folder:
            arguments.folder = Path(folder)
            sys.exit(report(arguments))


def write_data(arguments: argparse.Namespace) -> None:
    """Write queries.npy, documents.npy, positives.npy and truth.npy, the true k rows of each query."""
    random = np.random.default_rng(SEED)
    centres = random.standard_normal((max(1, arguments.documents // ROWS_PER_CLUSTER), arguments.dims), np.float32)
    documents = centres[random.integers(len(centres), size=arguments.documents)]
    documents = normalised(documents + random.standard_normal(documents.shape, np.float32))
    positives = random.choice(arguments.documents, arguments.queries, replace=arguments.queries > arguments.documents)
    noise = random.standard_normal((arguments.queries, arguments.dims), np.float32)
    queries = normalised(documents[positives] + normalised(noise))
    truth = brute_force(queries, documents, positives, arguments.k)
    for name, array in (("queries", queries), ("documents", documents), ("positives", positives), ("truth", truth)):
        np.save(arguments.folder / f"{name}.npy", array)


def normalised(rows: np.ndarray) -> np.ndarray:
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def brute_force(queries: np.ndarray, documents: np.ndarray, positives: np.ndarray, k: int) -> np.ndarray:
    """The k rows of highest score (float64, then float32) without the positive, the lower of equal ones first."""
    wide, found = documents.astype(np.float64).T, np.empty((len(queries), k), dtype=np.int64)
    for first in range(0, len(queries), BLOCK):
        block = slice(first, first + BLOCK)
        score = (queries[block].astype(np.float64) @ wide).astype(np.float32)
        score[np.arange(len(score)), positives[block]] = -np.inf
        kth = np.partition(score, -k, axis=1)[:, -k]
        for i, row in enumerate(score):
            near = np.flatnonzero(row >= kth[i])
            found[first + i] = near[np.lexsort((near, -row[near]))][:k]
    return found


def run_side(arguments: argparse.Namespace) -> None:
    """Search once in this process, or with `idle` only get ready to; prints seconds and memory, keeps the rows."""
    data = [np.load(arguments.folder / f"{name}.npy") for name in ("queries", "documents", "positives")]
    search, rows_of = SIDES[arguments.child](arguments, *data)
    start = time.perf_counter()
    found = None if arguments.idle else search()
    seconds = time.perf_counter() - start
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    if found is not None:
        np.save(arguments.folder / f"found_{arguments.child}.npy", rows_of(found))
    print(json.dumps({"seconds": seconds, "memory": memory}))


def ours(arguments: argparse.Namespace, queries: np.ndarray, documents: np.ndarray, positives: np.ndarray) -> Search:
    import torch

    from harness.search.request import CorpusShard
    from harness.search.top_k import top_k

    torch.set_num_threads(arguments.threads)
    excluded = (np.arange(len(queries)), positives)
    shard = CorpusShard(0, torch.from_numpy(documents))
    return lambda: top_k(torch.from_numpy(queries), shard, arguments.k, excluded=excluded), lambda found: found.index_QK


def theirs(arguments: argparse.Namespace, queries: np.ndarray, documents: np.ndarray, positives: np.ndarray) -> Search:
    import faiss
    import pandas as pd  # noqa: F401  (imported before the clock runs)
    import torch
    from datasets import Dataset
    from sentence_transformers import util

    torch.set_num_threads(arguments.threads)
    faiss.omp_set_num_threads(arguments.threads)
    corpus = [f"d{row}" for row in range(len(documents))]
    rows = {"anchor": [f"q{row}" for row in range(len(queries))], "positive": [corpus[row] for row in positives]}
    dataset, model = Dataset.from_dict(rows), _LookUp(queries, documents)

    def search() -> Dataset:
        return util.mine_hard_negatives(
            dataset,
            model,  # type: ignore[arg-type]
            corpus=corpus,
            num_negatives=arguments.k,
            use_faiss=True,
            output_format="n-tuple",
            verbose=False,
        )

    def rows_of(found: Dataset) -> np.ndarray:
        columns = [[int(text[1:]) for text in found[f"negative_{i + 1}"]] for i in range(arguments.k)]
        return np.array(columns).T

    return search, rows_of


class _LookUp:
    """As much of a SentenceTransformer as `mine_hard_negatives` asks for; texts are known, so nothing is encoded."""

    def __init__(self, queries: np.ndarray, documents: np.ndarray) -> None:
        self.queries, self.documents, self.device = queries, documents, "cpu"

    def encode_query(self, texts: list[str], **_: Any) -> np.ndarray:
        return self.queries

    def encode_document(self, texts: list[str], **_: Any) -> np.ndarray:
        return self.documents

    def get_embedding_dimension(self) -> int:
        return self.documents.shape[1]

    def similarity_pairwise(self, left: np.ndarray, right: np.ndarray) -> Any:
        from sentence_transformers.util import pairwise_cos_sim

        return pairwise_cos_sim(left, right)


def flat(arguments: argparse.Namespace, queries: np.ndarray, documents: np.ndarray, positives: np.ndarray) -> Search:
    import faiss

    faiss.omp_set_num_threads(arguments.threads)

    def search() -> np.ndarray:
        index = faiss.IndexFlatIP(arguments.dims)
        index.add(documents)
        return index.search(queries, arguments.k + 1)[1]

    return search, lambda found: found


SIDES: dict[str, Callable[[argparse.Namespace, np.ndarray, np.ndarray, np.ndarray], Search]] = {
    "ours": ours,
    "theirs": theirs,
    "flat": flat,
}


def child(arguments: argparse.Namespace, name: str, *flags: str) -> str:
    """What a process of its own prints. This one holds no data: ru_maxrss of a child begins with its parent's.

    Raises:
        subprocess.CalledProcessError: it failed; its messages have been shown.
    """
    names = ("folder", "queries", "documents", "dims", "k", "threads")
    options = [word for option in names for word in (f"--{option}", str(getattr(arguments, option)))]
    command = [sys.executable, "-m", "benchmarks.search", "--child", name, *flags, *options]
    environment = {**os.environ, "OMP_NUM_THREADS": str(arguments.threads)}
    return subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True).stdout


def report(arguments: argparse.Namespace) -> int:
    """Run all sides in turns, print the table; 1 if our rows are not the true ones."""
    child(arguments, "data")
    runs: dict[str, list[dict[str, float]]] = {side: [] for side in SIDES}
    for _ in range(arguments.repeats):
        for side, results in runs.items():
            results.append(measured(arguments, side))
    seconds = {side: min(run["seconds"] for run in results) for side, results in runs.items()}
    memory = {
        side: max(run["memory"] for run in results) - measured(arguments, side, "--idle")["memory"]
        for side, results in runs.items()
    }
    truth = np.load(arguments.folder / "truth.npy")
    recalls = {side: recall(np.load(arguments.folder / f"found_{side}.npy"), truth) for side in SIDES}
    versions = ", ".join(f"{name} {version(name)}" for name in ("torch", "sentence-transformers", "faiss-cpu"))
    size = f"{arguments.queries} queries × {arguments.documents} documents × {arguments.dims}, k = {arguments.k}"
    print(f"{size}; {arguments.threads} threads, {platform.machine()}; {versions}")
    print(f"{'':<7}{'seconds':>9}{'queries/s':>11}{'to theirs':>11}{'MiB':>8}{'to theirs':>11}{'recall':>9}")
    for side in SIDES:
        print(
            f"{side:<7}{seconds[side]:>9.2f}{arguments.queries / seconds[side]:>11.0f}"
            f"{seconds['theirs'] / seconds[side]:>11.2f}{memory[side] / 2**20:>8.0f}"
            f"{memory[side] / memory['theirs']:>11.2f}{recalls[side]:>9.5f}"
        )
    return int(recalls["ours"] < 1)


def measured(arguments: argparse.Namespace, side: str, *flags: str) -> dict[str, float]:
    """Seconds and memory of a side's run, from the last line it prints."""
    return json.loads(child(arguments, side, *flags).splitlines()[-1])


def recall(found: np.ndarray, truth: np.ndarray) -> float:
    """Share of the true rows that were found."""
    return float(np.mean([np.isin(wanted, rows).mean() for wanted, rows in zip(truth, found, strict=True)]))
