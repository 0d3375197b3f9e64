"""With `evaluation.main_metric` the model is the best step that was scored, whatever interrupts the run."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.integration.test_resume import outcome, train
from tests.ranks import run_ranks

pytestmark = pytest.mark.distributed
SETTINGS = ("evaluation.main_metric=faq/ndcg_at_10", "evaluation.every=1", "checkpoint.every=4", "checkpoint.keep=1")
SCORES = {0: 0.99, 1: 0.2, 2: 0.8, 3: 0.4, 4: 0.5, 5: 0.8, 6: 0.1}  # step 5 is only as good as step 2


def train_scored(scores: dict[int, float], folder: str, output: str, settings: tuple[str, ...], kill: str = "") -> None:
    """Runs on a rank: train, with these scores in place of those that the steps have."""
    from harness.report.report import Report

    def record(self, step, results, original=Report.evaluation):
        original(self, step, {"faq": {"ndcg_at_10": scores[step]}})

    Report.evaluation = record
    train(folder, output, settings, kill)


def train_with_scores(folder: str, output: str, settings: tuple[str, ...] = (), kill: str = "") -> None:
    train_scored(SCORES, folder, output, (*SETTINGS, *settings), kill)


def weights(model: Path) -> bytes:
    return (model / "model.safetensors").read_bytes()


def test_the_model_is_the_best_scored_step_and_its_checkpoint_is_kept(folder):
    """Step 2 is saved only because it is the best; two later saves, with keep 1, must not remove it."""
    run = folder / "best"
    run_ranks(1, train_with_scores, str(folder), "best")
    checkpoints = run / "checkpoints"
    assert sorted(path.name for path in checkpoints.glob("step-*")) == ["step-00000002", "step-00000006"]
    assert (checkpoints / "best").read_text() == "step-00000002\n"
    assert weights(run / "model") == weights(checkpoints / "step-00000002" / "model")
    assert weights(run / "model") != weights(checkpoints / "step-00000006" / "model")
    facts = json.loads((run / "run.json").read_text())
    assert facts["model_step"] == 2
    assert facts["best"] == {"step": 2, "metric": "faq/ndcg_at_10", "score": 0.8}
    assert "- steps: 2\n" in (run / "model" / "README.md").read_text()

    with pytest.raises(AssertionError):
        run_ranks(1, train_with_scores, str(folder), "killed", (), "after step 4")
    run_ranks(1, train_with_scores, str(folder), "killed")
    assert outcome(folder / "killed") == outcome(run)
    assert (folder / "killed" / "checkpoints" / "best").read_text() == "step-00000002\n"

    run_ranks(1, train_with_scores, str(folder), "killed", ("evaluation.main_metric=null",))
    assert weights(folder / "killed" / "model") == weights(checkpoints / "step-00000006" / "model")
