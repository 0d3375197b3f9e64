"""Results of `benchmarks.negatives`: held-out nDCG@10 per arm and data set, differences to `static`, and the cost."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.negatives.data import TRAIN_FILES
from benchmarks.negatives.figure import draw
from benchmarks.negatives.recipes import ARMS
from benchmarks.runner.command_line import write_json
from benchmarks.runner.result import in_figures, markdown_table, mean_and_spread, seeds_label

BASELINE = "static"
MEAN = "mean of the sets"


@dataclass(frozen=True, slots=True)
class FinishedRun:
    """A run of one arm and seed. `ndcg`: nDCG@10 per data set. `steps`: the rows of metrics.jsonl."""

    arm: str
    seed: int
    ndcg: dict[str, float]
    steps: list[dict[str, Any]]


@dataclass(frozen=True, slots=True)
class Cell:
    """Scores of one arm on one data set, over its seeds.

    Spreads are sample standard deviations over seeds; they are None if there is only one seed. A difference is the
    arm's score minus the score of `static` with the same seed. Means are None if there is no seed.
    """

    mean: float | None
    spread: float | None
    difference: float | None
    difference_spread: float | None


def write_result(out: Path, facts: dict[str, Any]) -> str:
    """Write result.md, result.json and negatives.png from the finished runs in `out`; return the text of result.md.

    Raises:
        ValueError: no run is finished.
    """
    start, runs = _ndcg(out / "scores" / "start.json"), finished_runs(out)
    if not runs:
        raise ValueError(f"--out: got {out}, in which no run is finished, expected at least one; run without --table")
    cells, text = compare(runs), describe(start, runs, facts)
    (out / "result.md").write_text(text + "\n", encoding="utf-8")
    result = {
        "start": with_mean(start),
        "runs": [{"arm": run.arm, "seed": run.seed, "ndcg_at_10": run.ndcg, **totals([run], facts)} for run in runs],
        "cells": {arm: {name: asdict(cell) for name, cell in row.items()} for arm, row in cells.items()},
        **facts,
    }
    write_json(out / "result.json", result)
    draw({arm: [run.steps for run in runs if run.arm == arm] for arm in ARMS}, out / "negatives.png")
    return text


def finished_runs(out: Path) -> list[FinishedRun]:
    """Return every run that has scores, sorted by arm, then by seed."""
    runs = []
    for file in (out / "scores").glob("*-*.json"):
        arm, _, seed = file.stem.rpartition("-")
        lines = (out / "runs" / file.stem / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
        runs.append(FinishedRun(arm, int(seed), _ndcg(file), [json.loads(line) for line in lines]))
    return sorted(runs, key=lambda run: (list(ARMS).index(run.arm), run.seed))


def compare(runs: Sequence[FinishedRun]) -> dict[str, dict[str, Cell]]:
    """Return arm → data set (and mean of the sets) → scores, and differences to `static` with the same seed."""
    scores = {(run.arm, run.seed): with_mean(run.ndcg) for run in runs}
    cells: dict[str, dict[str, Cell]] = {}
    for arm in dict.fromkeys(run.arm for run in runs):
        seeds = [run.seed for run in runs if run.arm == arm]
        paired = [seed for seed in seeds if (BASELINE, seed) in scores]
        cells[arm] = {
            name: Cell(
                *mean_and_spread([scores[arm, seed][name] for seed in seeds]),
                *mean_and_spread([scores[arm, seed][name] - scores[BASELINE, seed][name] for seed in paired]),
            )
            for name in scores[arm, seeds[0]]
        }
    return cells


def totals(runs: Sequence[FinishedRun], facts: dict[str, Any]) -> dict[str, float]:
    """Means over the runs of one arm: replaced negatives, their share of all negatives used, tokens, texts, seconds."""
    size = facts["size"]
    num_negatives_used = size["steps"] * size["quota"] * size["per_query"] * len(TRAIN_FILES)

    def mean_total(key: str) -> float:
        return float(np.mean([sum(row[key] for row in run.steps) for run in runs]))

    replaced = mean_total("negatives_replaced")
    return {
        "replaced": replaced,
        "replaced_share": replaced / num_negatives_used,
        "exhausted": mean_total("negatives_exhausted"),
        "tokens": mean_total("num_tokens"),
        "texts": mean_total("num_texts"),
        "seconds": mean_total("seconds"),
    }


def describe(start: dict[str, float], runs: Sequence[FinishedRun], facts: dict[str, Any]) -> str:
    """Format the result as Markdown: conditions, scores, differences to `static`, replacements and cost."""
    names, start_scores = [*TRAIN_FILES, MEAN], with_mean(start)
    scores = [["starting model", *(f"{start_scores[name]:.4f}" for name in names)]]
    differences, costs = [], []
    for arm, cells in compare(runs).items():
        runs_of_arm = [run for run in runs if run.arm == arm]
        label = seeds_label(arm, len(runs_of_arm))
        scores.append([label, *(in_figures(cells[name].mean, cells[name].spread) for name in names)])
        if arm != BASELINE:
            change = (in_figures(cells[name].difference, cells[name].difference_spread, sign="+") for name in names)
            differences.append([label, *change])
        costs.append([label, *_cost_cells(runs_of_arm, facts)])
    cost_names = ("negatives replaced", "of all shown", "list had ended", "tokens/step", "texts/step", "seconds")
    return "\n\n".join(
        [
            _conditions(facts),
            "Held-out nDCG@10, mean ± standard deviation over seeds:",
            markdown_table(["arm", *names], scores),
            f"Difference to `{BASELINE}` of the same seed, mean ± standard deviation:",
            markdown_table(["arm", *names], differences),
            "Means per run; tokens and texts are those of the unique texts, seconds those of all steps:",
            markdown_table(["arm", *cost_names], costs),
        ]
    )


def _conditions(facts: dict[str, Any]) -> str:
    size, quotas = facts["size"], facts["quotas_without_negatives"]
    counts = (f"{name}: {', '.join(f'{n:,} {what}' for what, n in of.items())}" for name, of in facts["rows"].items())
    return (
        f"{facts['model']}; {size['steps']} steps; learning rate {size['learning_rate']:g}; texts cut at "
        f"{facts['max_length']} tokens in mining, training and evaluation. A step has {size['quota']} queries with "
        f"{size['per_query']} negatives of every set; `none` has "
        f"{', '.join(f'{quota} ({name})' for name, quota in quotas.items())} queries instead. v1 judges every "
        f"{size['v1_interval']} steps. {'; '.join(counts)}. No document that is relevant to a test query was mined."
    )


def _cost_cells(runs: Sequence[FinishedRun], facts: dict[str, Any]) -> list[str]:
    total, steps = totals(runs, facts), facts["size"]["steps"]
    replaced = [f"{total['replaced']:.0f}", f"{total['replaced_share']:.1%}", f"{total['exhausted']:.0f}"]
    return [*replaced, f"{total['tokens'] / steps:,.0f}", f"{total['texts'] / steps:.0f}", f"{total['seconds']:,.0f}"]


def with_mean(ndcg: dict[str, float]) -> dict[str, float]:
    """Return the scores, and add their mean over the data sets."""
    return {**ndcg, MEAN: float(np.mean(list(ndcg.values())))}


def _ndcg(file: Path) -> dict[str, float]:
    datasets = json.loads(file.read_text(encoding="utf-8"))["datasets"]
    return {name: metrics["ndcg_at_10"] for name, metrics in datasets.items()}
