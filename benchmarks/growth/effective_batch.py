"""Does a larger effective batch cost memory or speed? A step of 256 queries against one of 16,384, on one rank.

all-MiniLM-L6-v2 of the extra `demo`, made-up texts of up to 16 tokens, `training.activation_memory` 0 and 512 MiB. The
peak is that of the steps alone, less what the table of embeddings takes with its copies. The first step, which measures
the graphs, is not timed.
"""

from __future__ import annotations

import json
import random
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import psutil

from benchmarks.growth.row import Row
from benchmarks.runner.process import in_own_process

SMALL, LARGE = 256, 16_384  # queries of a step
ALLOWED = 1.05
ACTIVATION_MEMORY = (0, 512)  # MiB
# Copies of the table of embeddings [T, D] while the score phase runs: the micro-batches', the gathered one, the one in
# the order of the plan, its gradient, and that in the order of the micro-batches.
COPIES_OF_TABLE = 5
MAX_LENGTH = 16


@dataclass(frozen=True, slots=True)
class Cost:
    """seconds and cpu_seconds: of a step. peak_bytes: the most resident memory in any step."""

    num_texts: int
    seconds: float
    cpu_seconds: float
    peak_bytes: int
    table_bytes: int


def rows(scale: float = 1.0) -> list[Row]:
    """Two sizes for each setting. Linux only, because the peak of a process must be forgotten after its start."""
    found = []
    for mebibytes in ACTIVATION_MEMORY:
        sizes = (SMALL, max(2 * SMALL, round(LARGE * scale)))
        small, large = (in_own_process(measure, size, mebibytes) for size in sizes)
        found += [_row(sizes[0], mebibytes, small, small), _row(sizes[1], mebibytes, large, small)]
    return found


def _row(size: int, mebibytes: int, cost: Cost, small: Cost) -> Row:
    growth = (cost.peak_bytes - cost.table_bytes) / (small.peak_bytes - small.table_bytes)
    slowdown = (cost.cpu_seconds / cost.num_texts) / (small.cpu_seconds / small.num_texts)
    return Row(
        what=f"a step with activation_memory {mebibytes}, a text",
        size=f"{size:,} queries ({growth:.3f} × the memory, {slowdown:.3f} × the CPU seconds of {SMALL})",
        seconds=cost.seconds / cost.num_texts,
        cpu_seconds=cost.cpu_seconds / cost.num_texts,
        peak_bytes=cost.peak_bytes,
        goal=f"memory, without the table of embeddings, and CPU seconds a text within {ALLOWED - 1:.0%}",
        met=None if cost is small else growth <= ALLOWED and slowdown <= ALLOWED,
    )


def measure(queries: int, mebibytes: int) -> Cost:
    """Train two steps; the second is timed. Call it in a process of its own."""
    from harness.config import load_recipe
    from harness.run.build import build_run
    from harness.run.start import memory_allocator
    from harness.settings.environment import prepare_environment
    from harness.trainer import train_step

    prepare_environment()
    with tempfile.TemporaryDirectory() as folder:
        loaded = load_recipe(str(_write_recipe(Path(folder), queries, mebibytes)), [])
        memory_allocator(loaded.config, stage=1)  # as a run sets it: where no graph is kept, freed memory goes back
        run = build_run(loaded)
        steps = run.steps(after=0)
        _forget_peak()
        train_step(run, next(steps))
        step = next(steps)
        started, cpu_started = time.perf_counter(), time.process_time()
        train_step(run, step)
        seconds, cpu_seconds = time.perf_counter() - started, time.process_time() - cpu_started
        num_texts = len(step.plan.texts)
        next(steps, None)  # ends the thread that plans
        return Cost(num_texts, seconds, cpu_seconds, _peak(), COPIES_OF_TABLE * num_texts * run.encoder.dim * 4)


def _write_recipe(folder: Path, queries: int, mebibytes: int) -> Path:
    words = [f"{first}{second}" for first in ("wa", "ter", "mo", "li", "ka") for second in ("ter", "ship", "ing", "al")]
    generator = random.Random(0)
    with (folder / "pairs.jsonl").open("w", encoding="utf-8") as stream:
        for number in range(2 * queries):
            texts = [" ".join([str(number), *generator.choices(words, k=generator.randint(2, 9))]) for _ in range(2)]
            stream.write(json.dumps({"query": texts[0], "positive": texts[1]}) + "\n")
    recipe = {
        "name": "effective_batch",
        "model": {"name_or_path": "demo-minilm", "pooling": "mean", "max_length": MAX_LENGTH},
        "tasks": [{"name": "pairs", "kind": "retrieval", "path": str(folder / "pairs.jsonl"), "quota": queries}],
        "training": {"steps": 2, "dropout": 0.0, "activation_memory": mebibytes},
        "data": {"cache": str(folder / "cache")},
        "output": str(folder / "run"),
    }
    (folder / "recipe.yaml").write_text(json.dumps(recipe), encoding="utf-8")
    return folder / "recipe.yaml"


def _forget_peak() -> None:
    Path("/proc/self/clear_refs").write_text("5")  # the peak counts anew from here


def _peak() -> int:
    """The most resident memory since `_forget_peak`, in bytes."""
    lines = Path(f"/proc/{psutil.Process().pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:"))
