"""The paper's ablation: vanilla, cross-GPU batch balance, dynamic hard negative mining, both, and a control.

    python -m benchmarks.ablation --data-root DIR --out FOLDER [--size small] [--jobs 2] [--only ARM:SEED ...]
    python -m benchmarks.ablation --out FOLDER --table        # shows the finished runs; trains nothing

Every run trains a retrieval, a similarity and a classification task together, from the same starting model.
`recipes.py` describes the arms (the variants), `data.py` the held-out data. A run is `harness train` followed by
`harness evaluate`, each in a new process. Finished runs are not repeated: start the same command again to continue an
experiment that was killed. The results are FOLDER/result.md, result.json, report.html and figures/.
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


def train(options: Namespace, out: Path) -> None:
    """Train and evaluate the runs that the options choose."""
    runs = chosen_runs(options.only, tuple(ARMS), options.seeds)
    run(runs, options.data_root, out, options.model, SIZES[options.size], options.jobs)


def show(out: Path, facts: dict[str, Any]) -> str:
    """Write the results and return them as Markdown. The imports of the report are heavy, so they happen only here."""
    from benchmarks.ablation.result import write_result

    return write_result(out, facts)


def run(runs: list[tuple[str, int]], root: Path, out: Path, model: str, size: Size, jobs: int) -> None:
    """Write the data, mine the bank, score the starting model, then train the runs. Existing files are kept."""
    data, settings = out / "data", {"model": model, "size": asdict(size)}
    agreed_facts(out, settings, lambda: {"rows": write_data(root, data, size.data)})
    mine(model, out, data, RETRIEVAL, candidates=size.candidates, max_length=size.max_length)
    held_out = [data / path for path in HELD_OUT.values()]
    score_model(model, out, "start", held_out, size.max_length)
    run_all(runs, lambda arm, seed: recipe(arm, seed, size, model=model, out=out), out, held_out, size.max_length, jobs)
