"""Write run folders with invented records and read them as a report does, without training."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from harness.mining.config import MiningConfig, build_rule
from harness.report.history import RuleThresholds, RunHistory, read_history

PHASES = {f"seconds/{name}": 0.1 for name in ("data", "embed", "score", "replay", "step", "mining", "communication")}
V1 = build_rule(MiningConfig(rule="v1"))
DATASETS = {"faq": "ndcg_at_10", "similar": "spearman"}


def row(step: int) -> dict[str, Any]:
    """An invented row of metrics.jsonl."""
    return {
        "step": step, "loss": 2.0 / step, "loss/faq": 1.5 / step, "loss/similar": 0.5 / step, "learning_rate": 1e-5,
        "gradient_norm": 3.0, "texts_per_second": 100.0, "tokens_per_second": 2000.0, "positive_similarity": 0.8,
        "negative_similarity": 0.5 - 0.001 * step, "seconds": 1.0, "num_texts": 100, "num_tokens": 2000,
        "negative_similarity_start": 0.5, "negatives_replaced": 0.0, "negatives_exhausted": 0.0, **PHASES,
        "memory_bytes": 2**30,
    }  # fmt: skip


def write_run(
    folder: Path,
    *,
    steps: int = 6,
    rule: RuleThresholds | None = None,
    seed: int = 0,
    evaluated: bool = True,
    change: Callable[[dict[str, Any]], dict[str, Any]] = lambda row: row,
    **settings: Any,
) -> RunHistory:
    """Write a run folder and return it as the report reads it. change: applied to every row."""
    folder.mkdir(parents=True)
    rows = [change(row(step)) for step in range(1, steps + 1)]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(one) + "\n" for one in rows))
    if evaluated:
        entries = [
            {"step": step, "dataset": name, "metrics": {metric: score, f"{metric}@8": score / 2, f"{metric}@16": score}}
            for step, score in ((0, 0.25), (steps, 0.5 + 0.1 * seed))
            for name, metric in DATASETS.items()
        ]
        (folder / "evaluation.json").write_text(json.dumps(entries))
    (folder / "run.json").write_text(json.dumps({"name": folder.name, "steps": steps, "seed": seed}))
    return read(folder, rule=rule, **{"training.seed": seed, **settings})


def read(folder: Path, *, rule: RuleThresholds | None = None, **settings: Any) -> RunHistory:
    """Read the run in a folder; its recipe has these settings."""
    recipe = {"name": folder.name, "mining.rule": "v1" if rule else "none", "output": str(folder), **settings}
    return read_history(folder, folder.name, recipe, rule)
