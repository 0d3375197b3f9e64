"""The paper's ablation: vanilla, cross-GPU batch balance, dynamic hard negative mining, both, and a control.

    python -m benchmarks.ablation --data-root DIR --out FOLDER [--size small] [--jobs 2] [--only ARM:SEED ...]
    python -m benchmarks.ablation --out FOLDER --table        # what is finished so far; trains nothing

A run trains retrieval, similarity and classification from one starting model; `ablation_recipes` says what an arm
holds in a step and `ablation_data` what is held out. Every run is `harness train`, then `harness evaluate`, in
processes of their own; what is finished is not done again: the same command continues a killed start. FOLDER gets
result.md, result.json, report.html and figures/.
"""

from __future__ import annotations

from argparse import Namespace
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks.ablation.data import HELD_OUT, RETRIEVAL, write_data
from benchmarks.ablation.recipes import ARMS, SIZES, Size, recipe
from benchmarks.runner.experiment import (
    agreed_facts,
    chosen_runs,
    execute,
    experiment_parser,
    mine,
    run_all,
    score_model,
)


def main() -> None:
    data, sizes_are = "train/, retrieval/, sts/ and classification/", "small: two CPU cores; gpu: a GPU"
    execute(
        experiment_parser(__doc__, data=data, sizes=tuple(SIZES), sizes_are=sizes_are, arms=tuple(ARMS)), train, show
    )


def train(given: Namespace, out: Path) -> None:
    """The runs asked for."""
    runs = chosen_runs(given.only, tuple(ARMS), given.seeds)
    run(runs, given.data_root, out, given.model, SIZES[given.size], given.jobs)


def show(out: Path, facts: dict[str, Any]) -> str:
    """The tables; the page with its figures is imported for them only."""
    from benchmarks.ablation.result import write_result

    return write_result(out, facts)


def run(runs: list[tuple[str, int]], root: Path, out: Path, model: str, size: Size, jobs: int) -> None:
    """Data, bank, the starting model's scores, then the runs; what stands there already is not made again."""
    data, settings = out / "data", {"model": model, "size": asdict(size)}
    agreed_facts(out, settings, lambda: {"rows": write_data(root, data, size.data)})
    mine(model, out, data, RETRIEVAL, candidates=size.candidates, max_length=size.max_length)
    held_out = [data / path for path in HELD_OUT.values()]
    score_model(model, out, "start", held_out, size.max_length)
    run_all(runs, lambda arm, seed: recipe(arm, seed, size, model=model, out=out), out, held_out, size.max_length, jobs)
