"""The recipes of the runs of `python -m benchmarks.evidence`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.evidence.arms import CURVE, MARGIN, MIXTURE, NEGATIVES, RELATIVE, Part, Size
from benchmarks.evidence.inputs.data import Sets, mixture_sets, negatives_sets, task_settings

TEMPERATURE = 0.05
_RERANKINGS = 4  # the run is divided into so many parts; candidates are ranked anew between them
_EVALUATIONS = {"curve": 16, "run": 4}


@dataclass(frozen=True, slots=True)
class Run:
    """One training: an arm, its learning rate, its seed. seeds change the order of the training queries."""

    arm: str
    rate: float
    seed: int

    @property
    def name(self) -> str:
        return f"{self.arm}-{self.rate:g}-{self.seed}"

    @property
    def part(self) -> Part:
        return "mixture" if self.arm in MIXTURE else "negatives"


@dataclass(frozen=True, slots=True)
class Place:
    """Where a run finds its data and what it writes to. root: --data-root. out: --out. start: the starting model."""

    root: Path
    out: Path
    start: str

    @property
    def data(self) -> Path:
        return self.out / "data"

    def sets(self, part: Part) -> Sets:
        return mixture_sets(self.root, self.data) if part == "mixture" else negatives_sets(self.root, self.data)

    def run_folder(self, run: Run) -> Path:
        return self.out / "runs" / run.name


def recipe(run: Run, size: Size, steps: int, in_batch_quota: int, place: Place) -> dict[str, Any]:
    """The recipe of a run.

    steps: of the runs that compare negatives, and of the curve; those of mixtures follow from the size. in_batch_quota:
    queries of a step without hard negatives, which have as many tokens as those of the others with theirs.
    """
    if run.part == "mixture":
        steps = MIXTURE[run.arm].steps(size.mixture.turns)
        parts = _mixture_parts(run.arm, size, place)
    else:
        parts = _negatives_parts(run.arm, size, steps, in_batch_quota, place)
    evaluations = _EVALUATIONS["curve" if run.arm == CURVE else "run"]
    return {
        "name": run.name,
        "model": {"name_or_path": place.start, "pooling": "mean", "max_length": size.max_length},
        "data": {"cache": str(place.out / "cache")},
        **parts,
        "training": {
            "steps": steps,
            "learning_rate": run.rate,
            "schedule": "constant" if run.arm == CURVE else "linear",
            "precision": size.precision,
            "dropout": 0.0,
            "seed": run.seed,
        },
        "deepspeed": "zero0",
        "evaluation": {
            "every": max(1, steps // evaluations),
            "data": [str(path) for path in place.sets(run.part).dev.values()],
        },
        "checkpoint": {"every": max(1, steps // 4), "keep": 1},
        "report": {"trackers": []},
        "output": str(place.run_folder(run)),
    }


def _negatives_parts(name: str, size: Size, steps: int, in_batch_quota: int, place: Place) -> dict[str, Any]:
    arm = NEGATIVES["in_batch" if name == CURVE else name]
    negatives: dict[str, Any] = {"scope": "task"}
    if arm.bank is not None:
        negatives |= {"per_query": size.per_query, "bank": str(place.out / "banks" / arm.bank)}
    if arm.drawn:
        negatives["draw"] = "random"
    if arm.filtered:
        negatives["margin"] = MARGIN
    mining = dict(arm.mining)
    if mining["rule"] == "v1":
        mining.setdefault("interval", size.v1_interval)
    if arm.reranked:
        filters = {"relative": RELATIVE} if arm.filtered else {}
        mining["remine"] = {"every": max(1, steps // _RERANKINGS), "candidates": size.candidates, **filters}
    task = {
        "name": "docstrings",
        **task_settings(place.root, place.data)["docstrings"],
        "quota": in_batch_quota if arm.bank is None else size.quota,
        "negatives": negatives,
    }
    return {"tasks": [task], "loss": {"temperature": TEMPERATURE}, "mining": mining}


def _mixture_parts(name: str, size: Size, place: Place) -> dict[str, Any]:
    arm, mixture = MIXTURE[name], size.mixture
    tasks = [
        {"name": task, **settings, "quota": mixture.examples * arm.turns_at_once}
        for task, settings in task_settings(place.root, place.data).items()
    ]
    for task in tasks:
        if task["kind"] == "classification":
            task["negatives"] = {"per_query": mixture.per_query}
        elif task["kind"] == "retrieval":
            task["negatives"] = {"scope": arm.scope}
    # With beta 0.8 and its own temperature of 0.05 CoSENT would take most of the clipped gradient (LOG.md, 2026-11-20).
    loss = {"balance": arm.balance, "temperature": TEMPERATURE, "cosent_temperature": 0.2, "beta": 0.8}
    return {"tasks": tasks, "loss": loss}
