"""Measure where the time of a step goes, side by side with another build and with other settings.

    python -m benchmarks.step --data-root DIR [--precisions fp32 bf16] [--batch 256] [--steps 4] [--rounds 3]
        [--baseline FOLDER] [--compare KEY=VALUE ...] [--set KEY=VALUE ...] [--ranks 1] [--threads N] [--out FILE.json]
    python -m benchmarks.step --shape bert_large --max-length 512 --precisions bf16 --budget-seconds 480   # on a GPU

Trains a MiniLM on pairs of DIR/prompt_response/alpaca_en/train.jsonl.gz, or with --shape a randomly initialised BERT on
random texts. FOLDER is a checkout of another commit (`git worktree add FOLDER COMMIT`). Every KEY=VALUE of --compare is
a further side: this build with this setting. Several settings of one side are joined with commas.

Every side runs in new processes; the sides take turns, and the median of the rounds counts. A run's first step is left
out. Share of the matrix rate: 3 passes of 2 · (parameters without embeddings) · (tokens without padding), divided by
the seconds of a step and by the measured rate of plain matrix products. Exit status 1: a side failed, or a goal (speed
and memory against the baseline, share of the matrix rate in fp32) is missed.
"""

from __future__ import annotations

import gzip
import json
import os
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from statistics import median
from typing import Any

import yaml

from benchmarks.runner import command_line
from benchmarks.runner.process import in_own_process
from benchmarks.step import synthetic
from benchmarks.step.machine import Work, matrix_rate, work_of
from benchmarks.step.report import judge, show
from benchmarks.step.training import Build, StepFigures, TrainingFailedError, train
from harness.settings.environment import prepare_environment

TRAIN_FILE = Path("prompt_response/alpaca_en/train.jsonl.gz")
ROOT = Path(__file__).parents[2]


def main() -> None:
    parser = command_line.parser(__doc__)
    parser.add_argument("--data-root", type=Path, help=f"holds {TRAIN_FILE}")
    parser.add_argument("--shape", choices=tuple(synthetic.SHAPES), help="a random model and random texts instead")
    parser.add_argument("--model", default="demo-minilm", help="a name or folder")
    parser.add_argument("--max-length", type=int, default=128, help="tokens")
    parser.add_argument("--batch", type=int, default=256, help="pairs of a step")
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--precisions", nargs="+", default=["fp32", "bf16"])
    parser.add_argument("--dropout", type=float, default=0.0)
    parser.add_argument("--baseline", type=Path, metavar="FOLDER", help="a checkout of another commit")
    parser.add_argument("--compare", action="append", default=[], metavar="KEY=VALUE", help="a side of this build")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", dest="settings", help="on all sides")
    parser.add_argument("--ranks", type=int, default=1)
    parser.add_argument("--threads", type=int, help="of a rank; default: cores / ranks")
    parser.add_argument("--budget-seconds", type=float, default=float("inf"), help="start no run after this time")
    command_line.add_out(parser)
    options = parser.parse_args()
    prepare_environment()
    with tempfile.TemporaryDirectory() as folder:
        try:
            result = measure(options, Path(folder))
        except ValueError as error:
            parser.error(str(error))
    show(result)
    command_line.write_json(options.out, result)
    sys.exit(1 if result["failures"] or not all(goal["met"] for goal in result["goals"]) else 0)


def measure(options: Any, folder: Path) -> dict[str, Any]:
    """Train all sides in turn, for every precision.

    Raises:
        ValueError: data or options do not fit.
    """
    threads = options.threads or max(1, (os.cpu_count() or 1) // options.ranks)
    recipe = write_recipe(options, folder)
    rounds, failures = train_in_turns(options, folder, recipe, threads)
    rates = {name: in_own_process(matrix_rate, name, threads) * options.ranks for name in options.precisions}
    work: Work = in_own_process(work_of, recipe, tuple(options.settings), options.steps, options.ranks)
    sides = {key: with_share(summary(runs), work, rates[key[0]]) for key, runs in rounds.items() if runs}
    return {
        "threads": threads,
        "ranks": options.ranks,
        "batch": options.batch,
        "work": {**asdict(work), "operations": work.operations},
        "matrix_rates": rates,
        "sides": [{"precision": precision, "name": name, **side} for (precision, name), side in sides.items()],
        "goals": judge(sides),
        "failures": failures,
    }


def train_in_turns(
    options: Any, folder: Path, recipe: Path, threads: int
) -> tuple[Mapping[tuple[str, str], list[StepFigures]], dict[str, str]]:
    """Train every side once per round. Returns the runs by (precision, side), and why a side failed."""
    rounds: defaultdict[tuple[str, str], list[StepFigures]] = defaultdict(list)
    failures: dict[str, str] = {}
    started = time.monotonic()
    turns = [(precision, build) for precision in options.precisions for build in builds(options)] * options.rounds
    for number, (precision, build) in enumerate(turns):
        name = f"{precision} {build.name}"
        if name in failures or time.monotonic() - started > options.budget_seconds:
            continue
        output = folder / f"run{number}"
        settings = (*build.settings, f"training.precision={precision}", f"data.cache={output}-cache")
        run = Build(build.name, build.folder, settings)
        try:
            figures = train(run, recipe, output, ranks=options.ranks, threads=threads)
            rounds[precision, build.name].append(figures)
            print(f"{name}: {figures.texts_per_second:.1f} texts/s", file=sys.stderr, flush=True)
        except TrainingFailedError as error:
            failures[name] = str(error)
    return rounds, failures


def builds(options: Any) -> list[Build]:
    """The baseline, if there is one, this build, and this build with each of the settings to compare."""
    common = tuple(options.settings)
    sides = [Build("baseline", options.baseline.resolve(), common)] if options.baseline else []
    sides.append(Build("this build", ROOT, common))
    return sides + [Build(change, ROOT, (*common, *change.split(","))) for change in options.compare]


def summary(runs: Sequence[StepFigures]) -> dict[str, Any]:
    """Medians over the rounds of one side; losses of its first round; the largest peak memory."""

    def middle(values: Sequence[float | None]) -> float | None:
        known = [value for value in values if value is not None]
        return median(known) if known else None

    names = ("seconds", "texts_per_second", "tokens_per_second", "cpu_seconds", "page_faults")
    return {
        **{name: middle([getattr(run, name) for run in runs]) for name in names},
        "texts_per_second_of_rounds": [run.texts_per_second for run in runs],
        "seconds_of_phase": {
            phase: middle([run.seconds_of_phase[phase] for run in runs]) for phase in runs[0].seconds_of_phase
        },
        "peak_memory_bytes": max(run.peak_memory_bytes for run in runs),
        "losses": list(runs[0].losses),
    }


def with_share(side: dict[str, Any], work: Work, rate: float) -> dict[str, Any]:
    """The side with its share of the matrix rate, which is in operations per second."""
    return {**side, "share": work.operations / side["seconds"] / rate}


def write_recipe(options: Any, folder: Path) -> Path:
    """Write data and recipe with keys that builds of other commits know, too.

    Raises:
        ValueError: neither data nor a shape is given, or there are too few pairs.
    """
    count, pairs, model = options.batch * options.steps, folder / "pairs.jsonl", options.model
    if options.shape is not None:
        model = str(in_own_process(synthetic.write_model, folder / "model", options.shape, options.max_length))
        in_own_process(synthetic.write_pairs, pairs, count, options.max_length)
    else:
        _copy_pairs(options.data_root, pairs, count)
    recipe = {
        "name": "step",
        "model": {"name_or_path": model, "pooling": "mean", "max_length": options.max_length},
        "tasks": [
            {
                "name": "pairs",
                "kind": "retrieval",
                "path": str(pairs),
                "quota": options.batch,
                "negatives": {"scope": "task"},
            }
        ],
        "loss": {"temperature": 0.05},
        "training": {"steps": options.steps, "warmup_ratio": 0.0, "dropout": options.dropout},
        "checkpoint": {"every": 0},
        "evaluation": {"every": 0, "data": []},
        "deepspeed": "zero1",
    }
    file = folder / "recipe.yaml"
    file.write_text(yaml.safe_dump(json.loads(json.dumps(recipe)), sort_keys=False))
    return file


def _copy_pairs(data_root: Path | None, pairs: Path, count: int) -> None:
    if data_root is None or not (data_root / TRAIN_FILE).is_file():
        raise ValueError(f"--data-root: got {data_root}, expected a folder that holds {TRAIN_FILE}; or give --shape")
    with gzip.open(data_root / TRAIN_FILE, "rt", encoding="utf-8") as stream:
        lines = list(islice(stream, count))
    if len(lines) < count:
        raise ValueError(
            f"--batch, --steps: got {count} pairs, expected at most the {len(lines)} of {TRAIN_FILE}; lower them"
        )
    pairs.write_text("".join(lines), encoding="utf-8")
