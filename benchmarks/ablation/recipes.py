"""The arms of `python -m benchmarks.ablation` and their recipes.

Every arm trains on the same examples of the three tasks, in the same order. A turn of a task is `examples` examples;
every task has `turns` turns.

| arm | contents of a step | steps |
| --- | --- | --- |
| vanilla, mining | one task's next turn, the task drawn at random (`alternate`) | 3 · turns |
| cbb, both | the next turn of every task (`cbb`) | turns |
| control | one task's next three turns at once (`alternate`) | turns |

The paper has no `control`. It has as many optimizer steps as cbb, and on average as many texts, tokens and negatives in
a step, but a step does not mix tasks. The total number of texts is equal in all arms. A retrieval query has as many
negatives in vanilla as in cbb, and about three times as many in control.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from benchmarks.ablation.data import RETRIEVAL, AblationSize
from benchmarks.runner.data import RetrievalSize

NUM_TASKS = 3
Balance = Literal["cbb", "alternate"]


@dataclass(frozen=True, slots=True)
class Arm:
    """The settings that an arm changes. A step holds `turns_at_once` turns of a task."""

    balance: Balance
    mined: bool = False
    turns_at_once: int = 1

    def steps(self, turns: int) -> int:
        """Number of steps until every task has had all its turns."""
        return turns if self.balance == "cbb" else turns * NUM_TASKS // self.turns_at_once


ARMS = {
    "vanilla": Arm("alternate"),
    "cbb": Arm("cbb"),
    "mining": Arm("alternate", mined=True),
    "both": Arm("cbb", mined=True),
    "control": Arm("alternate", turns_at_once=NUM_TASKS),
}


@dataclass(frozen=True, slots=True)
class Size:
    """Amount of data, length and settings of a run."""

    data: AblationSize
    candidates: int
    examples: int  # examples of a task in one turn
    per_query: int  # negatives of each retrieval query and of each classified text
    turns: int  # turns of each task; a multiple of NUM_TASKS
    max_length: int  # longest text in tokens: in mining, training and evaluation
    learning_rate: float
    judged_every: int  # turns between two checks of rule v1


SIZES = {
    "tiny": Size(AblationSize(RetrievalSize(4, 40, 4, 20), 4, 4, 4, 2, 3, 10, 6), 30, 2, 2, 3, 16, 1e-4, 1),
    "small": Size(
        AblationSize(RetrievalSize(32, 500, 100, 300), 30, 10, 40, 4, 12, 400, 150), 60, 8, 3, 48, 32, 1e-4, 4
    ),
    "gpu": Size(
        AblationSize(RetrievalSize(None, None, None, None), None, None, None, 100, 100, None, None),
        100, 32, 7, 300, 256, 2e-5, 50,
    ),
}  # fmt: skip


def recipe(name: str, seed: int, size: Size, *, model: str, out: Path) -> dict[str, Any]:
    """Return the recipe of the arm `name` with this seed."""
    arm, data = ARMS[name], out / "data"
    quota = size.examples * arm.turns_at_once
    steps_per_turn = 1 if arm.balance == "cbb" else NUM_TASKS
    negatives_settings = {"bank": str(out / "banks" / RETRIEVAL), "scope": "task", "per_query": size.per_query}
    tasks: dict[str, dict[str, Any]] = {
        "retrieval": {
            "kind": "retrieval",
            "path": str(data / "train" / f"{RETRIEVAL}.jsonl"),
            "negatives": negatives_settings,
        },
        "similarity": {"kind": "sts", "path": str(data / "train" / "similarity.jsonl")},
        "intents": {
            "kind": "classification",
            "path": str(data / "train" / "intents.jsonl"),
            "negatives": {"per_query": size.per_query},
        },
    }
    return {
        "name": f"{name}-{seed}",
        "model": {"name_or_path": model, "pooling": "mean", "max_length": size.max_length},
        "tasks": [{"name": task, **settings, "quota": quota} for task, settings in tasks.items()],
        "data": {"cache": str(out / "cache")},
        "loss": {"balance": arm.balance, "temperature": 0.05, "cosent_temperature": 0.05, "beta": 0.8},
        "mining": {"rule": "v1", "interval": size.judged_every * steps_per_turn} if arm.mined else {"rule": "none"},
        "training": {"steps": arm.steps(size.turns), "learning_rate": size.learning_rate, "seed": seed},
        "output": str(out / "runs" / f"{name}-{seed}"),
    }
