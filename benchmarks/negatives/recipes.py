"""The arms of `python -m benchmarks.negatives` and their recipes: equal in everything but the negatives."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.negatives.data import TRAIN_FILES
from benchmarks.runner.data import RetrievalSize

MAX_LENGTH = 64  # longest text in tokens: in mining, training and evaluation
TEMPERATURE = 0.05

# The `mining` section of each arm, without the interval of v1. The queries of `none` have no hard negatives.
ARMS: dict[str, dict[str, Any]] = {
    "static": {"rule": "none"},
    "v1": {"rule": "v1"},
    "v2": {"rule": "v2"},
    "none": {"rule": "none"},
    "v2_no_floor": {"rule": "v2", "floor": -1.0},
}
PUBLISHED_ARMS = ("static", "v1", "v2", "none")


@dataclass(frozen=True, slots=True)
class Size:
    """Amount of data, length and settings of a run.

    quota: queries of each data set in a step. per_query: hard negatives of a query. The arm `none` uses neither.
    """

    data: RetrievalSize
    candidates: int
    quota: int
    per_query: int
    steps: int
    learning_rate: float
    v1_interval: int  # steps


SIZES = {
    "tiny": Size(RetrievalSize(4, 40, 4, 20), 30, 2, 2, 6, 1e-4, 2),
    "small": Size(RetrievalSize(24, 1000, 80, 300), 60, 3, 4, 40, 1e-4, 8),
    "full": Size(RetrievalSize(None, None, None, None), 100, 32, 7, 500, 2e-5, 100),
}


def recipe(arm: str, seed: int, size: Size, *, model: str, out: Path, quotas: dict[str, int]) -> dict[str, Any]:
    """Return the recipe of one run. `quotas`: queries of each data set in a step of the arm `none`."""
    mining = dict(ARMS[arm])
    if mining["rule"] == "v1":
        mining["interval"] = size.v1_interval

    def task(name: str) -> dict[str, Any]:
        bank_settings = {"per_query": size.per_query, "bank": str(out / "banks" / name)}
        return {
            "name": name,
            "kind": "retrieval",
            "path": str(out / "data" / "train" / f"{name}.jsonl"),
            "quota": quotas[name] if arm == "none" else size.quota,
            "negatives": {"scope": "task", **({} if arm == "none" else bank_settings)},
        }

    return {
        "name": f"{arm}-{seed}",
        "model": {"name_or_path": model, "pooling": "mean", "max_length": MAX_LENGTH},
        "tasks": [task(name) for name in TRAIN_FILES],
        "data": {"cache": str(out / "cache")},
        "loss": {"temperature": TEMPERATURE},
        "mining": mining,
        "training": {"steps": size.steps, "learning_rate": size.learning_rate, "seed": seed},
        "output": str(out / "runs" / f"{arm}-{seed}"),
    }
