"""Experiments of many runs. A run is `harness train` followed by `harness evaluate`, each in a new process.

    FOLDER/experiment.json       the settings, and facts that hold for all runs
    FOLDER/recipes/ARM-SEED.yaml, runs/ARM-SEED/, scores/ARM-SEED.json
    FOLDER/scores/start.json     the scores of the starting model

An arm is one variant of the recipe. Finished work is not repeated: start the same command again to continue an
experiment that was killed.
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
from benchmarks.runner.process import StoppedError, harness, stops_its_commands
from harness.process.statuses import CONTINUE
from harness.settings.environment import prepare_environment

FACTS, MODEL = "experiment.json", "demo-minilm"
Facts = dict[str, Any]  # experiment.json
MakeRecipe = Callable[[str, int], dict[str, Any]]  # (arm, seed)


def experiment_parser(
    doc: str | None,
    *,
    data: str,
    sizes: Sequence[str],
    sizes_are: str,
    arms: Sequence[str],
    model: str = MODEL,
    model_is: str = "the starting model",
) -> argparse.ArgumentParser:
    """Return a parser with the options that all experiments have.

    data: the contents of --data-root, for the help. sizes: the first one is the default. model: the default.
    """
    parser = command_line.parser(doc)
    parser.add_argument("--data-root", type=Path, help=f"holds {data}")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--size", choices=tuple(sizes), default=sizes[0], help=sizes_are)
    parser.add_argument("--model", default=model, help=f"{model_is} (default: {model})")
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
    """Parse the command line, train the chosen runs into the folder --out, write the results and print them.

    A user's mistake ends the process with one line. SIGTERM ends it with status 75, once the runs have saved their
    state.
    """
    options = parser.parse_args()
    prepare_environment()
    out = options.out.resolve()
    try:
        if not options.table:
            if options.data_root is None:
                raise ValueError("--data-root: got none, expected the folder of the data; or give --table")
            with stops_its_commands():
                train(options, out)
        print(write_result(out, json.loads((out / FACTS).read_text(encoding="utf-8"))))
    except (ValueError, OSError) as error:
        parser.error(str(error))
    except StoppedError:
        print("stopped: the same command continues", file=sys.stderr)
        sys.exit(CONTINUE)
    except subprocess.CalledProcessError as error:
        sys.exit(f"status {error.returncode} of: {' '.join(map(str, error.cmd))}")


def chosen_runs(only: Sequence[str] | None, arms: Sequence[str], seeds: Sequence[int]) -> list[tuple[str, int]]:
    """Return (arm, seed) in running order: all arms of a seed, then the next seed, so that they can be compared early.

    only: the chosen runs, each as `ARM:SEED`; None means all.

    Raises:
        ValueError: an item of `only` is not the name of a run.
    """
    if not only:
        return [(arm, seed) for seed in seeds for arm in arms]
    pairs = [text.partition(":")[::2] for text in only]
    unknown_run = next((f"{arm}:{seed}" for arm, seed in pairs if arm not in arms or not seed.isdigit()), None)
    if unknown_run is not None:
        raise ValueError(f"--only: got {unknown_run!r}, expected ARM:SEED with an arm of {', '.join(arms)}")
    return [(arm, int(seed)) for arm, seed in pairs]


def agreed_facts(out: Path, settings: Mapping[str, Any], make: Callable[[], Mapping[str, Any]]) -> dict[str, Any]:
    """Return the contents of experiment.json. The first start in `out` writes `settings` and the result of `make`.

    Raises:
        ValueError: `out` holds an experiment with different settings.
    """
    file, settings = out / FACTS, json.loads(json.dumps(settings))
    if not file.exists():
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps({**settings, **make()}, indent=2) + "\n", encoding="utf-8")
    facts: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    if any(facts.get(key) != value for key, value in settings.items()):
        old = ", ".join(f"{key}: {facts.get(key)}" for key in settings)
        raise ValueError(
            f"--out: got {out}, which holds an experiment with other settings ({old}), expected the same --model and "
            "--size, or a new folder"
        )
    return facts


def run_all(
    runs: Sequence[tuple[str, int]], make: MakeRecipe, out: Path, data: Sequence[Path], max_length: int, jobs: int
) -> None:
    """Train and evaluate every run that is not finished, `jobs` runs at a time.

    data: the evaluation data. max_length: longest text in evaluation, in tokens.

    Raises:
        subprocess.CalledProcessError: a command failed. It is raised after all other runs have ended.
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
        pending_runs = [pool.submit(run, arm, seed) for arm, seed in runs]
    for finished_run in pending_runs:
        finished_run.result()


def mine(
    model: str,
    out: Path,
    data: Path,
    name: str,
    *,
    candidates: int,
    max_length: int,
    bank: str | None = None,
    options: Sequence[object] = (),
) -> None:
    """Rank DATA/corpus/NAME.jsonl for the queries of DATA/train/NAME.jsonl and write the bank OUT/banks/BANK.

    Does nothing if the bank exists. bank: its name; None: NAME. options: further ones of `harness mine`.
    """
    bank = bank or name
    if not (out / "banks" / bank / "bank.json").exists():
        data_options = ["--queries", data / "train" / f"{name}.jsonl", "--corpus", data / "corpus" / f"{name}.jsonl"]
        mining_options = ["--candidates", candidates, "--max-length", max_length]
        harness("mine", model, *data_options, *mining_options, *options, "--out", out / "banks" / bank)


def score_model(model: str, out: Path, name: str, data: Sequence[Path], max_length: int) -> None:
    """Evaluate the model on `data` and write OUT/scores/NAME.json. Does nothing if the file exists."""
    file = out / "scores" / f"{name}.json"
    if not file.exists():
        unfinished_file = file.with_suffix(".part")
        harness("evaluate", model, *data, "--max-length", max_length, "--output", unfinished_file)
        unfinished_file.replace(file)
