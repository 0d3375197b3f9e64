"""A large negative bank: time to open it, its memory, and the time per step to watch all negatives of the step.

    python -m benchmarks.bank [--queries 10000000] [--candidates 100] [--slots 7] [--batch 4096] [--steps 300]
        [--step-ms 1000] [--folder DIR] [--out FILE.json]

The candidates (int32 ids, float16 scores) are memory-mapped files of zeros, sparse on disk. The similarities are
random, and cause far more replacements than in training. The timed steps visit each of their queries three times; then
every other query of the bank is visited once. Each rule is measured in a new process. Memory is the increase of
RssAnon (/proc/self/status) since just before the bank was opened; it does not count pages of memory-mapped files.
Linux only. Exit status 1: a limit is exceeded.
"""

from __future__ import annotations

import re
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Literal

import numpy as np

from benchmarks.runner import command_line
from benchmarks.runner.process import in_own_process
from harness.data.bank.history import BankHistory
from harness.data.bank.negatives import NegativeBank
from harness.mining.config import MiningConfig
from harness.mining.dynamic import DynamicNegatives
from harness.types import QueryPart, RaggedLists, StepPlan, StepTexts

Rules = Literal["v1", "v2"]
RULES: tuple[Rules, ...] = ("v1", "v2")
LIMITS = {"open_seconds": 1.0, "opened_mb": 200.0, "watched_mb": 200.0, "share_of_step": 0.01}
VISITS = 3  # times that the timed steps visit each of their queries


@dataclass(frozen=True, slots=True)
class Size:
    """Size of the bank and of the steps."""

    queries: int
    candidates: int
    slots: int
    batch: int
    steps: int
    step_ms: float  # assumed duration of a training step


@dataclass(frozen=True, slots=True)
class Figures:
    """Measurements of one rule. Milliseconds are those of one step of `batch` queries."""

    rule: Rules
    open_seconds: float
    opened_mb: float
    watched_mb: float  # memory after the timed steps
    epoch_mb: float  # memory after every query of the bank was visited
    median_ms: float
    slowest_ms: float  # for v1: a step that judges all queries seen since the last check
    mean_ms: float
    share_of_step: float  # mean_ms / step_ms
    plan_ms: float  # time to look up the ranks in use and their candidates; training does it in another thread
    replaced: int
    state_seconds: float
    state_mb: float


@dataclass(frozen=True, slots=True)
class MappedCandidates:
    """Implements `harness.data.bank.negatives.Candidates` with two memory-mapped arrays. All rows have equal length."""

    candidate_RC: np.ndarray
    score_RC: np.ndarray
    offset: int = 10
    texts: Any = None

    @classmethod
    def open(cls, folder: Path) -> MappedCandidates:
        return cls(*(np.load(folder / name, mmap_mode="r") for name in ("candidate_RC.npy", "score_RC.npy")))

    def count(self, row_B: np.ndarray) -> np.ndarray:
        return np.full(len(row_B), self.candidate_RC.shape[1], dtype=np.int64)

    def text_ids(self, row_B: np.ndarray, rank_BM: np.ndarray) -> np.ndarray:
        return self.candidate_RC[row_B[:, None], rank_BM].astype(np.int64)

    def scores(self, row_B: np.ndarray, rank_BM: np.ndarray) -> np.ndarray:
        return self.score_RC[row_B[:, None], rank_BM].astype(np.float32)


def main() -> None:
    parser = command_line.parser(__doc__)
    parser.add_argument("--queries", type=int, default=10_000_000)
    parser.add_argument("--candidates", type=int, default=100)
    parser.add_argument("--slots", type=int, default=7, help="negatives in use of a query")
    parser.add_argument("--batch", type=int, default=4096, help="queries of a step")
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--step-ms", type=float, default=1000.0, help="what a step of training is taken to last")
    parser.add_argument("--folder", type=Path, help="where the files are made; default: a temporary folder")
    command_line.add_out(parser)
    options = parser.parse_args()
    size = Size(options.queries, options.candidates, options.slots, options.batch, options.steps, options.step_ms)
    if not 0 < size.steps // VISITS * size.batch <= size.queries:
        parser.error(
            f"--steps: got {size.steps}, expected at least {VISITS}, and {VISITS} visits to at most all queries"
        )
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        make(Path(folder), size)
        figures = [in_own_process(measure, rule, Path(folder), size) for rule in RULES]
    print(describe(figures, size))
    command_line.write_json(options.out, {"size": asdict(size), "figures": [asdict(row) for row in figures]})
    sys.exit(1 if any(getattr(row, name) > limit for row in figures for name, limit in LIMITS.items()) else 0)


def make(folder: Path, size: Size) -> None:
    """Create the files of a bank, filled with zeros. The file system stores the zeros as holes."""
    shape = (size.queries, size.candidates)
    for name, dtype in (("candidate_RC.npy", np.int32), ("score_RC.npy", np.float16)):
        np.lib.format.open_memmap(folder / name, mode="w+", dtype=dtype, shape=shape)


def measure(rule: Rules, folder: Path, size: Size) -> Figures:
    """Open the bank and watch its negatives: first the timed steps, then the other queries of an epoch, not timed."""
    random = np.random.default_rng(0)
    row_Q = random.permutation(size.queries)
    timed_VB = row_Q[: size.steps // VISITS * size.batch].reshape(-1, size.batch)
    similarity_BM = random.uniform(0.3, 0.9, (size.batch, size.slots))
    before_mb, started = resident_mb(), time.perf_counter()
    candidates = MappedCandidates.open(folder)
    bank = NegativeBank(size.queries, candidates, size.slots)
    task: Any = SimpleNamespace(config=SimpleNamespace(name="task"), bank=BankHistory(bank))
    must_not_be_called: Any = _must_not_be_called
    negatives = DynamicNegatives(
        MiningConfig(rule=rule), [task], size.queries, look_ahead=must_not_be_called, rerank=must_not_be_called
    )
    open_seconds, opened_mb = time.perf_counter() - started, resident_mb() - before_mb

    plan_ms, watch_ms, replaced = _watch(negatives, bank, timed_VB, similarity_BM, size.steps, random)
    watched_mb = resident_mb() - before_mb
    for number, row_B in enumerate(_blocks(row_Q[timed_VB.size :], size.batch), start=size.steps + 1):
        plan = _plan(number, row_B, bank.ranks(row_B, number))
        negatives.observe(plan, {"task": similarity_BM[: len(row_B)]})
    epoch_mb, started = resident_mb() - before_mb, time.perf_counter()
    state = negatives.state()
    return Figures(
        rule=rule,
        open_seconds=open_seconds,
        opened_mb=opened_mb,
        watched_mb=watched_mb,
        epoch_mb=epoch_mb,
        median_ms=float(np.median(watch_ms)),
        slowest_ms=max(watch_ms),
        mean_ms=float(np.mean(watch_ms)),
        share_of_step=float(np.mean(watch_ms)) / size.step_ms,
        plan_ms=float(np.median(plan_ms)),
        replaced=int(replaced),
        state_seconds=time.perf_counter() - started,
        state_mb=sum(array.nbytes for array in state.values()) / 2**20,
    )


def _watch(
    negatives: DynamicNegatives,
    bank: NegativeBank,
    row_VB: np.ndarray,
    similarity_BM: np.ndarray,
    num_steps: int,
    random: np.random.Generator,
) -> tuple[list[float], list[float], float]:
    """Return the milliseconds of planning and of watching for each step, and the total number of replaced negatives."""
    plan_ms, watch_ms, replaced = [], [], 0.0
    for step in range(1, num_steps + 1):
        row_B = np.sort(row_VB[(step - 1) % len(row_VB)])
        started = time.perf_counter()
        rank_BM = bank.ranks(row_B, step)
        bank.candidates.text_ids(row_B, rank_BM)
        plan_ms.append(1e3 * (time.perf_counter() - started))
        similarity_of_task = {"task": random.permuted(similarity_BM, axis=0)}
        plan = _plan(step, row_B, rank_BM)
        started = time.perf_counter()
        replaced += negatives.observe(plan, similarity_of_task)["negatives_replaced"]
        watch_ms.append(1e3 * (time.perf_counter() - started))
    return plan_ms, watch_ms, replaced


def _must_not_be_called(*_: Any) -> Any:
    raise AssertionError("this rule neither looks ahead nor ranks anew")


def _plan(step: int, row_B: np.ndarray, rank_BM: np.ndarray) -> StepPlan:
    """A step of one task. Its texts and documents are placeholders: watching does not read them."""
    none = np.empty((len(row_B), 0), dtype=np.int64)
    texts = StepTexts(np.empty(0, np.int32), np.empty(0, np.int64), np.empty(0, np.int64))
    part = QueryPart("task", row_B, row_B, row_B, row_B[:, None], rank_BM, rank_BM, RaggedLists.of_padded(none), False)
    return StepPlan(step, texts, (part,))


def _blocks(row_Q: np.ndarray, size: int) -> Iterator[np.ndarray]:
    return (row_Q[first : first + size] for first in range(0, len(row_Q), size))


def resident_mb() -> float:
    """Anonymous memory of this process in RAM, in MiB."""
    match = re.search(r"RssAnon:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert match is not None
    return int(match[1]) / 1024


def describe(figures: list[Figures], size: Size) -> str:
    """Format the conditions, then a table with a column for each rule and a column for the limits."""
    texts = size.batch * (2 + size.slots)
    names = [name for name in asdict(figures[0]) if name != "rule"]
    return "\n".join(
        [
            f"{size.queries:,} queries with {size.candidates} candidates; steps of {size.batch:,} queries with "
            f"{size.slots} negatives; a step of {size.step_ms:g} ms would be {1e3 * texts / size.step_ms:,.0f} texts a "
            "second",
            f"{'':14s}" + "".join(f"{row.rule:>12s}" for row in figures) + "       limit",
            *(
                f"{name:14s}"
                + "".join(f"{getattr(row, name):12,.4g}" for row in figures)
                + (f"{LIMITS[name]:12g}" if name in LIMITS else "")
                for name in names
            ),
        ]
    )
