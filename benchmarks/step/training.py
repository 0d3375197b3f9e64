"""Trains a recipe with `harness train` of any build; reads what a step cost from its run folder and from the kernel.

Only the contract of the run folder is used (metrics.jsonl), so builds of other commits can be measured, too.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

PHASES = ("data", "embed", "score", "replay", "step", "mining")
_TICKS = os.sysconf("SC_CLK_TCK")
_SAMPLE_SECONDS = 0.02


@dataclass(frozen=True, slots=True)
class Build:
    """A build to measure: the folder of its source, and what it sets in the recipe."""

    name: str
    folder: Path
    settings: tuple[str, ...] = ()  # KEY=VALUE


@dataclass(frozen=True, slots=True)
class StepFigures:
    """What a step cost: medians over the steps of a run, without its first. None: the build does not tell."""

    losses: tuple[float, ...]  # of every step, the first included
    seconds: float
    texts_per_second: float
    tokens_per_second: float
    seconds_of_phase: Mapping[str, float | None]  # communication lies within the other phases
    cpu_seconds: float | None  # of all ranks
    page_faults: float | None  # of all ranks
    peak_memory_bytes: int  # of rank 0


class TrainingFailedError(ValueError):
    """A build could not train the recipe."""


def train(build: Build, recipe: Path, output: Path, *, ranks: int, threads: int) -> StepFigures:
    """Train the recipe with a build in new processes.

    threads: of each rank.

    Raises:
        TrainingFailedError: the command failed.
    """
    changes = [argument for setting in build.settings for argument in ("--set", setting)]
    launcher = ["torch.distributed.run", "--standalone", f"--nproc-per-node={ranks}", "-m"] if ranks > 1 else []
    command = [sys.executable, "-m", *launcher, "harness", "train", str(recipe), *changes, "--output", str(output)]
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(map(str, (build.folder, build.folder / "kernels"))),
        "OMP_NUM_THREADS": str(threads),
        "RAYON_NUM_THREADS": str(threads),
    }
    process = subprocess.Popen(
        command, cwd=build.folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    sampler = _Sampler(process.pid, output / "metrics.jsonl")
    sampler.start()
    printed, _ = process.communicate()
    sampler.stop()
    if process.returncode:
        lines = [line for line in printed.splitlines() if line.strip()]
        raise TrainingFailedError(f"{build.name}: status {process.returncode}: {' | '.join(lines[-3:])}")
    rows = [json.loads(line) for line in (output / "metrics.jsonl").read_text().splitlines()]
    return figures(rows, sampler.samples)


def figures(rows: Sequence[Mapping[str, float]], samples: Mapping[int, tuple[int, float]]) -> StepFigures:
    """Summarise a run. rows: of metrics.jsonl. samples: number of rows written → (page faults, CPU seconds) until then.

    The first step is left out if there are others: it contains what happens once, and no sample stands before it.
    """
    counted = rows[1:] or rows
    known = sorted(count for count in samples if 1 <= count <= len(rows))
    steps = known[-1] - known[0] if known else 0
    faults, cpu_seconds = (
        (samples[known[-1]][index] - samples[known[0]][index]) / steps if steps else None for index in (0, 1)
    )
    phases = {name: _median_seconds(counted, name) for name in (*PHASES, "communication", "reduce")}
    return StepFigures(
        losses=tuple(float(row["loss"]) for row in rows),
        seconds=median(row["seconds"] for row in counted),
        texts_per_second=median(row["texts_per_second"] for row in counted),
        tokens_per_second=median(row["tokens_per_second"] for row in counted),
        seconds_of_phase=phases,
        cpu_seconds=cpu_seconds,
        page_faults=faults,
        peak_memory_bytes=int(max(row["memory_bytes"] for row in rows)),
    )


def _median_seconds(rows: Sequence[Mapping[str, float]], place: str) -> float | None:
    """None if no row has this place: another build may not measure it. A row that lacks it spent no time there."""
    key = f"seconds/{place}"
    return median(row.get(key) or 0.0 for row in rows) if any(key in row for row in rows) else None


class _Sampler(threading.Thread):
    """Notes page faults and CPU seconds of a process and its children whenever a row of metrics.jsonl appears."""

    def __init__(self, pid: int, metrics: Path) -> None:
        super().__init__(daemon=True)
        self._pid, self._metrics, self._ended = pid, metrics, threading.Event()
        self.samples: dict[int, tuple[int, float]] = {}

    def run(self) -> None:
        while not self._ended.wait(_SAMPLE_SECONDS):
            try:
                count = self._metrics.read_bytes().count(b"\n")
            except OSError:
                continue
            if count and count not in self.samples:
                self.samples[count] = cost_of_processes(self._pid)

    def stop(self) -> None:
        self._ended.set()
        self.join()


def cost_of_processes(pid: int) -> tuple[int, float]:
    """Page faults without a read from disk, and CPU seconds, of a running process and its children (Linux)."""
    faults, ticks = 0, 0
    for process in _descendants(pid):
        try:
            fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
        except OSError:  # it has just ended
            continue
        faults += int(fields[7])
        ticks += int(fields[11]) + int(fields[12])
    return faults, ticks / _TICKS


def _descendants(pid: int) -> Iterator[int]:
    yield pid
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            children = task.read_text().split()
        except OSError:
            continue
        for child in children:
            yield from _descendants(int(child))
