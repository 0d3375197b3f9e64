"""Experiments of many runs: each is `harness train`, then `harness evaluate`, in processes of their own.

    FOLDER/experiment.json       the settings, and what is the same for all runs
    FOLDER/recipes/ARM-SEED.yaml, runs/ARM-SEED/, scores/ARM-SEED.json; scores/start.json is the starting model's

What is finished is not done again: the same command continues a killed start.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import yaml

from benchmarks.runner import command_line
from benchmarks.runner.process import harness
from harness.cli.environment import prepare_environment

FACTS, MODEL = "experiment.json", "demo-minilm"
Facts = dict[str, Any]  # experiment.json
MakeRecipe = Callable[[str, int], dict[str, Any]]  # (arm, seed)


def experiment_parser(
    doc: str | None, *, data: str, sizes: Sequence[str], sizes_are: str, arms: Sequence[str]
) -> argparse.ArgumentParser:
    """The options that all experiments have. data: what --data-root holds. The first size is the default."""
    parser = command_line.parser(doc)
    parser.add_argument("--data-root", type=Path, help=f"holds {data}")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--size", choices=tuple(sizes), default=sizes[0], help=sizes_are)
    parser.add_argument("--model", default=MODEL, help="the starting model")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--only", action="append", metavar="ARM:SEED", help=f"one run; arms: {', '.join(arms)}")
    parser.add_argument("--jobs", type=int, default=1, help="runs at a time; set OMP_NUM_THREADS to cores / jobs")
    parser.add_argument("--table", action="store_true", help="only write and print the results of finished runs")
    return parser


def execute(
    parser: argparse.ArgumentParser,
    train: Callable[[argparse.Namespace, Path], None],
    write_result: Callable[[Path, Facts], str],
) -> None:
    """Train what is asked for into the folder --out, then write and print the results; mistakes end in one line."""
    given = parser.parse_args()
    prepare_environment()
    out = given.out.resolve()
    try:
        if not given.table:
            if given.data_root is None:
                raise ValueError("--data-root: got none, expected the folder of the data; or give --table")
            train(given, out)
        print(write_result(out, json.loads((out / FACTS).read_text(encoding="utf-8"))))
    except (ValueError, OSError) as error:
        parser.error(str(error))
    except subprocess.CalledProcessError as error:
        sys.exit(f"status {error.returncode} of: {' '.join(map(str, error.cmd))}")


def chosen_runs(only: Sequence[str] | None, arms: Sequence[str], seeds: Sequence[int]) -> list[tuple[str, int]]:
    """(arm, seed) in the order they are run in: a seed's arms together, so that what is done can be compared.

    only: `ARM:SEED` each; None: all.

    Raises:
        ValueError: `only` names no run.
    """
    if not only:
        return [(arm, seed) for seed in seeds for arm in arms]
    pairs = [text.partition(":")[::2] for text in only]
    wrong = next((f"{arm}:{seed}" for arm, seed in pairs if arm not in arms or not seed.isdigit()), None)
    if wrong is not None:
        raise ValueError(f"--only: got {wrong!r}, expected ARM:SEED with an arm of {', '.join(arms)}")
    return [(arm, int(seed)) for arm, seed in pairs]


def agreed_facts(out: Path, settings: Mapping[str, Any], make: Callable[[], Mapping[str, Any]]) -> dict[str, Any]:
    """The settings and what `make` adds to them at the first start in `out`.

    Raises:
        ValueError: `out` holds an experiment with other settings.
    """
    file, settings = out / FACTS, json.loads(json.dumps(settings))
    if not file.exists():
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps({**settings, **make()}, indent=2) + "\n", encoding="utf-8")
    facts: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    if any(facts.get(key) != value for key, value in settings.items()):
        held = ", ".join(f"{key}: {facts.get(key)}" for key in settings)
        raise ValueError(
            f"--out: got {out}, which holds an experiment with other settings ({held}), expected the same --model and "
            "--size, or a new folder"
        )
    return facts


def run_all(
    runs: Sequence[tuple[str, int]], make: MakeRecipe, out: Path, data: Sequence[Path], max_length: int, jobs: int
) -> None:
    """Train and evaluate every run that is not finished, `jobs` at a time.

    data: what is scored. max_length: tokens, in evaluation.

    Raises:
        subprocess.CalledProcessError: a command failed; the other runs are done first.
    """

    def run(arm: str, seed: int) -> None:
        name, started = f"{arm}-{seed}", time.monotonic()
        if (out / "scores" / f"{name}.json").exists():
            return
        recipe = make(arm, seed)
        file = out / "recipes" / f"{name}.yaml"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(yaml.safe_dump(recipe, sort_keys=False), encoding="utf-8")
        harness("train", file)
        score_model(recipe["output"], out, name, data, max_length)
        print(f"{name}: {time.monotonic() - started:.0f} s", flush=True)

    with ThreadPoolExecutor(jobs) as pool:
        waiting = [pool.submit(run, arm, seed) for arm, seed in runs]
    for done in waiting:
        done.result()


def mine(model: str, out: Path, data: Path, name: str, *, candidates: int, max_length: int) -> None:
    """Rank DATA/corpus/NAME.jsonl for the queries of DATA/train/NAME.jsonl: OUT/banks/NAME, unless it is there."""
    if not (out / "banks" / name / "bank.json").exists():
        sides = ["--queries", data / "train" / f"{name}.jsonl", "--corpus", data / "corpus" / f"{name}.jsonl"]
        how = ["--candidates", candidates, "--max-length", max_length]
        harness("mine", model, *sides, *how, "--out", out / "banks" / name)


def score_model(model: str, out: Path, name: str, data: Sequence[Path], max_length: int) -> None:
    """OUT/scores/NAME.json, unless it is there."""
    file = out / "scores" / f"{name}.json"
    if not file.exists():
        part = file.with_suffix(".part")
        harness("evaluate", model, *data, "--max-length", max_length, "--output", part)
        part.replace(file)
