"""With replacement of negatives, the number of ranks changes neither the decisions nor the losses."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harness.mining.replacement_rule import ReplacementRule
from tests.ranks import run_ranks
from tests.tiny import text, write_jsonl

pytestmark = pytest.mark.distributed

RULES = {
    "v1": ("mining.rule=v1", "mining.interval=2", "mining.ratio=1.01", "mining.ceiling=0.99"),
    "v2": ("mining.rule=v2", "mining.ratio=1.01", "mining.ceiling=0.97", "mining.floor=0.9"),
    "upcoming": (
        "mining.rule=v2",
        "mining.ratio=1.01",
        "mining.ceiling=0.97",
        "mining.floor=0.9",
        "mining.check=upcoming",
        "mining.interval=2",
    ),
    "remine": (
        "mining.rule=v2",
        "mining.ratio=1.01",
        "mining.ceiling=0.97",
        "mining.floor=2",
        "mining.remine.every=5",
        "tasks.faq.negatives.offset=1",
    ),
    "relative": (
        "mining.rule=relative",
        "mining.quantile=0.8",
        "mining.uses_above=2",
        "tasks.faq.negatives.scope=task",
    ),
}


@pytest.fixture(scope="module")
def recipe(folder: Path) -> Path:
    """A recipe: twelve queries with nine ranked negatives each and no other negatives, so that they soon get easy."""
    rows = [
        {"query": text(i, 4), "positive": text(1000 + i), "negative": [text(3000 + 9 * i + j) for j in range(9)]}
        for i in range(12)
    ]
    write_jsonl(folder / "ranked.jsonl", rows)
    path = folder / "ranked.yaml"
    path.write_text(f"""
name: ranked
model: {{name_or_path: {folder / "model"}, max_length: 24}}
tasks: [{{name: faq, kind: retrieval, path: ranked.jsonl, quota: 8, negatives: {{scope: own, per_query: 2}}}}]
training: {{steps: 12, learning_rate: 1.0e-3, dropout: 0, micro_batch_tokens: 128}}
data: {{cache: {folder / "cache"}}}
output: {folder / "run"}
""")
    return path


def trained(recipe: str, settings: tuple[str, ...]) -> dict[str, Any]:
    """Runs on a rank: train and return losses, decisions, and the similarities that the rule judged."""
    from harness.config import load_recipe
    from harness.run.build import build_run
    from harness.trainer import train_step

    judged: list[tuple[np.ndarray, np.ndarray]] = []
    run = build_run(load_recipe(recipe, list(settings)))
    rule = run.negatives.tasks["faq"].rule
    assert rule is not None
    easy = type(rule).easy

    def recording(
        rule: ReplacementRule, row_B: np.ndarray, start_BM: np.ndarray, similarity_BM: np.ndarray
    ) -> np.ndarray:
        judged.append((start_BM, similarity_BM))
        return easy(rule, row_B, start_BM, similarity_BM)

    type(rule).easy = recording  # type: ignore[method-assign]
    steps = [train_step(run, step) for step in run.steps(after=0)]
    return {
        "loss": [metrics["loss"] for metrics in steps],
        "replaced": [metrics["negatives_replaced"] for metrics in steps],
        "state": run.negatives.state(),
        "judged": judged,
        "too_hard": sum(metrics.get("negatives_too_hard", 0) for metrics in steps),
        "gap": min((gap(rule, start_BM, similarity_BM) for start_BM, similarity_BM in judged), default=np.inf),
    }


def gap(rule: ReplacementRule, start_BM: np.ndarray, similarity_BM: np.ndarray) -> float:
    """Smallest distance of a negative (v1: of a window) to a threshold of the rule."""
    seen = ~np.isnan(start_BM + similarity_BM)
    if rule.name == "v1":
        seen, start_BM, similarity_BM = seen.all(1), start_BM.mean(1), similarity_BM.mean(1)
    start, now = start_BM[seen].astype(np.float64), similarity_BM[seen]
    numbers = rule.numbers
    thresholds = [numbers["ratio"] * now - start, now - numbers["ceiling"], start - numbers.get("floor", 0)]
    return float(np.abs(np.concatenate(thresholds)).min(initial=np.inf))


@pytest.mark.parametrize("rule", RULES)
def test_any_number_of_ranks_replaces_the_same_negatives_and_has_the_same_losses(recipe: Path, rule: str) -> None:
    (one,), *others = [run_ranks(world, trained, str(recipe), RULES[rule]) for world in (1, 2, 3)]
    assert sum(one["replaced"]) > 20
    assert one["too_hard"] > 0 or rule != "relative"
    for other in (rank for ranks in others for rank in ranks):
        assert other["replaced"] == one["replaced"]
        np.testing.assert_allclose(other["loss"], one["loss"], rtol=1e-5)
        assert other["state"].keys() == one["state"].keys()
        for name, array in one["state"].items():
            np.testing.assert_allclose(other["state"][name], array, atol=1e-5 if array.dtype.kind == "f" else 0)
        for mine, theirs in zip(one["judged"], other["judged"], strict=True):
            np.testing.assert_allclose(theirs, mine, atol=one["gap"] / 20)  # no decision hung on rounding
