"""Compare exact search for hard negatives with `mine_hard_negatives(use_faiss=True)` of sentence-transformers.

    pip install -c constraints.txt -e '.[mining]'        # installs FAISS for their side
    python -m benchmarks.search [--queries 5000] [--documents 50000] [--dims 384] [--k 100] [--threads N] [--repeats 3]

The data are random normalised rows in clusters. Each query has one known positive, which the search must leave out.
Sides:

    ours      top_k, one process
    theirs    mine_hard_negatives, with a model that returns the prepared rows: search and building of the result
    flat      only FAISS' IndexFlatIP, which `theirs` calls; it does not leave the positive out

Every run is a new process, and the sides take turns. The table shows the shortest time and the largest memory of a
side. Memory is ru_maxrss minus the ru_maxrss of a process with equal imports and data that does not search. Recall is
measured against brute force in NumPy, in float64. Exit status 1: the recall of `ours` is below 1.
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

# the function to time, and a function that takes its result and returns the rows [Q, k]
Search = tuple[Callable[[], Any], Callable[[Any], np.ndarray]]
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
    """Write queries.npy, documents.npy, positives.npy, and truth.npy (the k nearest rows of each query)."""
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
    """The k rows of highest score for each query, without its positive. Of equal scores the lower row comes first.

    Scores are computed in float64 and rounded to float32.
    """
    document_DN, found = documents.astype(np.float64).T, np.empty((len(queries), k), dtype=np.int64)
    for first in range(0, len(queries), BLOCK):
        block = slice(first, first + BLOCK)
        score = (queries[block].astype(np.float64) @ document_DN).astype(np.float32)
        score[np.arange(len(score)), positives[block]] = -np.inf
        kth = np.partition(score, -k, axis=1)[:, -k]
        for i, row in enumerate(score):
            near = np.flatnonzero(row >= kth[i])
            found[first + i] = near[np.lexsort((near, -row[near]))][:k]
    return found


def run_side(arguments: argparse.Namespace) -> None:
    """Search once in this process, print seconds and memory, save the rows. With `idle`: prepare, but do not search."""
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
    import pandas as pd  # noqa: F401  (imported here so that its import is not timed)
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
    """The methods of SentenceTransformer that `mine_hard_negatives` calls. They return prepared rows."""

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
    """Run this benchmark in a new process and return its standard output.

    The parent must hold no data, because ru_maxrss of a child starts at the value of its parent.

    Raises:
        subprocess.CalledProcessError: the child failed; its messages went to stderr.
    """
    names = ("folder", "queries", "documents", "dims", "k", "threads")
    options = [word for option in names for word in (f"--{option}", str(getattr(arguments, option)))]
    command = [sys.executable, "-m", "benchmarks.search", "--child", name, *flags, *options]
    environment = {**os.environ, "OMP_NUM_THREADS": str(arguments.threads)}
    return subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True).stdout


def report(arguments: argparse.Namespace) -> int:
    """Run all sides in turns and print the table. Return 1 if the recall of `ours` is below 1, else 0."""
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
    """Run a side in a new process and return its seconds and memory, which are the last line of its output."""
    return json.loads(child(arguments, side, *flags).splitlines()[-1])


def recall(found: np.ndarray, truth: np.ndarray) -> float:
    """Share of the true rows that the search found."""
    return float(np.mean([np.isin(wanted, rows).mean() for wanted, rows in zip(truth, found, strict=True)]))
