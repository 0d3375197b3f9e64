"""Static hard negatives, dynamic replacement by v1 and v2, and no hard negatives: held-out nDCG@10 on four data sets.

    python -m benchmarks.negatives --data-root DIR --out FOLDER [--size small] [--only ARM:SEED ...] [--extra]
    python -m benchmarks.negatives --out FOLDER --table        # what is finished so far; trains nothing

A run trains stackfaq_en, cranfield_en, cmrc2018_zh and alpaca_en together, retrieval only, from one starting model. All
runs have the same rows, steps and learning rate, those of a seed the same order of queries. `static` keeps the first
window (ranks 10 on) of a bank that `harness mine` makes once, without filters; `v1` and `v2` move on in it. `none` has
more queries instead of negatives, so that its steps have as many tokens. Every run is `harness train`, then `harness
evaluate`, in processes of their own; what is finished is not done again: the same command continues a killed start.
FOLDER gets result.md, result.json and negatives.png.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import Any

import yaml

from benchmarks.negatives_data import TRAIN_FILES, write_data
from benchmarks.negatives_recipes import ARMS, MAX_LENGTH, MODEL, PUBLISHED_ARMS, SIZES, Size, equal_token_quota, recipe
from benchmarks.negatives_result import write_result
from harness.quiet import prepare_environment

FACTS = "experiment.json"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-root", type=Path, help="holds train/, retrieval/ and prompt_response/")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--size", choices=tuple(SIZES), default="small", help="small: a CPU core; full: a GPU")
    parser.add_argument("--model", default=MODEL, help="the starting model")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--only", action="append", metavar="ARM:SEED", help=f"one run; arms: {', '.join(ARMS)}")
    parser.add_argument("--extra", action="store_true", help="v2 without its floor, too, after the others")
    parser.add_argument("--jobs", type=int, default=1, help="runs at a time")
    parser.add_argument("--table", action="store_true", help="only write and print the results of finished runs")
    given = parser.parse_args()
    prepare_environment()
    out = given.out.resolve()
    try:
        if not given.table:
            if given.data_root is None:
                raise ValueError("--data-root: got none, expected the folder of the data; or give --table")
            runs = chosen_runs(given.only, given.seeds, given.extra)
            facts = prepare(given.data_root, out, given.model, SIZES[given.size])
            run_all(runs, out, given.model, SIZES[given.size], facts["quotas_without_negatives"], given.jobs)
        print(write_result(out, json.loads((out / FACTS).read_text())))
    except (ValueError, OSError) as error:
        parser.error(str(error))
    except subprocess.CalledProcessError as error:
        sys.exit(f"status {error.returncode} of: {' '.join(map(str, error.cmd))}")


def chosen_runs(only: list[str] | None, seeds: list[int], extra: bool) -> list[tuple[str, int]]:
    """(arm, seed) in the order they are run in: a seed's arms together, so that what is done can be compared.

    Raises:
        ValueError: `only` names no run.
    """
    if only:
        pairs = [text.partition(":")[::2] for text in only]
        wrong = next((f"{arm}:{seed}" for arm, seed in pairs if arm not in ARMS or not seed.isdigit()), None)
        if wrong is not None:
            raise ValueError(f"--only: got {wrong!r}, expected ARM:SEED with an arm of {', '.join(ARMS)}")
        return [(arm, int(seed)) for arm, seed in pairs]
    arms = [PUBLISHED_ARMS] + [tuple(arm for arm in ARMS if arm not in PUBLISHED_ARMS)] * extra
    return [(arm, seed) for group in arms for seed in seeds for arm in group]


def prepare(root: Path, out: Path, model: str, size: Size) -> dict[str, Any]:
    """Data, banks and the starting model's scores; what stands there already is not made again.

    Raises:
        ValueError: `out` holds an experiment with other settings, or data are missing.
    """
    facts_file, settings = out / FACTS, json.loads(json.dumps({"model": model, "size": asdict(size)}))
    if not facts_file.exists():
        rows = write_data(root, out / "data", size.data)
        quotas = {
            name: equal_token_quota(model, out / "data", name, size.quota, size.per_query) for name in TRAIN_FILES
        }
        facts = {**settings, "rows": rows, "quotas_without_negatives": quotas, "max_length": MAX_LENGTH}
        facts_file.write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")
    facts = json.loads(facts_file.read_text(encoding="utf-8"))
    if any(facts[key] != value for key, value in settings.items()):
        raise ValueError(
            f"--out: got {out}, which holds an experiment with other settings ({facts['model']}, {facts['size']}), "
            "expected the same --model and --size, or a new folder"
        )
    for name in TRAIN_FILES:
        if not (out / "banks" / name / "bank.json").exists():
            sides = ["--queries", out / "data" / "train" / f"{name}.jsonl"]
            sides += ["--corpus", out / "data" / "corpus" / f"{name}.jsonl"]
            how = ["--candidates", size.candidates, "--max-length", MAX_LENGTH]
            _harness("mine", model, *sides, *how, "--out", out / "banks" / name)
    _evaluate(model, out, "start")
    return facts


def run_all(runs: list[tuple[str, int]], out: Path, model: str, size: Size, quotas: dict[str, int], jobs: int) -> None:
    """Train and evaluate every run that is not finished, `jobs` at a time."""

    def run(arm: str, seed: int) -> None:
        name, started = f"{arm}-{seed}", time.monotonic()
        if (out / "scores" / f"{name}.json").exists():
            return
        file = out / "recipes" / f"{name}.yaml"
        file.parent.mkdir(parents=True, exist_ok=True)
        made = recipe(arm, seed, size, model=model, out=out, quotas=quotas)
        file.write_text(yaml.safe_dump(made, sort_keys=False), encoding="utf-8")
        _harness("train", file)
        _evaluate(str(out / "runs" / name), out, name)
        print(f"{name}: {time.monotonic() - started:.0f} s", flush=True)

    with ThreadPoolExecutor(jobs) as pool:
        for done in [pool.submit(run, arm, seed) for arm, seed in runs]:
            done.result()


def _evaluate(model: str, out: Path, name: str) -> None:
    file = out / "scores" / f"{name}.json"
    if not file.exists():
        folders = [out / "data" / "retrieval" / dataset for dataset in TRAIN_FILES]
        part = file.with_suffix(".part")
        _harness("evaluate", model, *folders, "--max-length", MAX_LENGTH, "--output", part)
        part.replace(file)


def _harness(*arguments: Any) -> None:
    """A command of the harness, in a process of its own; its output goes where this one's goes."""
    command = [sys.executable, "-m", "harness", *map(str, arguments)]
    subprocess.run(command, check=True, env={**os.environ, "COLUMNS": "120"})


if __name__ == "__main__":
    main()
