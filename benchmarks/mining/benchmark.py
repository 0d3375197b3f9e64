"""Measure the share of a step's time that dynamic mining takes: watching negatives, looking ahead, ranking anew.

    python -m benchmarks.mining --data-root DIR [--steps 24] [--quota 32] [--per-query 4] [--budget 256]

One recipe (stackfaq_en with the negatives in its file) is trained four times, each time in a new process: without a
rule; with v2, which reads the negatives' similarities from the loss (watching); with v2 looking ahead every 8 steps;
and with one new ranking. The share is `seconds/mining` divided by `seconds` in metrics.jsonl, without the first two
steps. Goal: watching takes less than 1 % of a step.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from benchmarks.runner import command_line
from benchmarks.runner.process import harness

WARM_UP = 2  # steps
CHECK_EVERY = 8  # steps
WATCHING_GOAL = 0.01  # largest share of a step


def main() -> None:
    parser = command_line.parser(__doc__)
    parser.add_argument("--data-root", type=Path, required=True, help="holds train/stackfaq_en.train.jsonl.gz")
    parser.add_argument("--steps", type=int, default=24)
    parser.add_argument("--quota", type=int, default=32)
    parser.add_argument("--per-query", type=int, default=4)
    parser.add_argument("--budget", type=int, default=256, help="texts encoded by a look ahead")
    parser.add_argument("--model", default="demo-minilm")
    options = parser.parse_args()
    arms: dict[str, dict[str, Any]] = {
        "none": {},
        "v2, seen": {"rule": "v2"},
        f"v2, upcoming every {CHECK_EVERY}": {
            "rule": "v2",
            "check": "upcoming",
            "interval": CHECK_EVERY,
            "budget": options.budget,
        },
        "ranked anew once": {"remine": {"every": options.steps - 4}},
    }
    print(f"{options.steps} steps of {options.quota} queries x {options.per_query} negatives; {os.cpu_count()} cores")
    print("| arm | s/step, median | mining, ms/step | share of a step | most in one step, s |\n|---|---|---|---|---|")
    shares = {}
    with tempfile.TemporaryDirectory() as folder:
        for arm, mining in arms.items():
            rows = _trained(options, mining, Path(folder) / arm.replace(" ", "_"))[WARM_UP:]
            cost = np.array([row["seconds/mining"] for row in rows])
            total = np.array([row["seconds"] for row in rows])
            shares[arm] = cost.sum() / total.sum()
            median = np.median(total - cost)
            print(
                f"| {arm} | {median:.2f} | {1e3 * cost.mean():.2f} | {shares[arm]:.3%} | {cost.max():.2f} |", flush=True
            )
    met = "met" if shares["v2, seen"] < WATCHING_GOAL else "missed"
    print(f"\nwatching below {WATCHING_GOAL:.0%} of a step: {shares['v2, seen']:.3%}, {met}")


def _trained(options: argparse.Namespace, mining: dict[str, Any], folder: Path) -> list[dict[str, Any]]:
    """Train one run and return the rows of its metrics.jsonl."""
    negatives = {"per_query": options.per_query, "offset": 0}
    task = {"name": "faq", "kind": "retrieval", "path": "train/stackfaq_en.train.jsonl.gz", "quota": options.quota}
    recipe = {
        "name": "mining_cost",
        "model": {"name_or_path": options.model, "max_length": 64},
        "tasks": [{**task, "negatives": negatives}],
        "training": {"steps": options.steps, "learning_rate": 2e-5},
        "mining": mining,
        "evaluation": {"every": 0},
        "checkpoint": {"every": 0},
        "output": str(folder / "run"),
    }
    folder.mkdir()
    (folder / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    harness("train", folder / "recipe.yaml", "--data-root", options.data_root, quiet=True)
    return [json.loads(line) for line in (folder / "run" / "metrics.jsonl").read_text().splitlines()]
