"""A run that ends before its last step: by early stopping or by a callback, on all ranks at once."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import pytest

from harness import comm, trainer
from harness.config import load_recipe
from harness.run.callbacks import STOP, Callback
from tests.integration.test_best_step import train_scored, weights
from tests.integration.test_resume import outcome
from tests.ranks import leave_out_report, run_ranks

pytestmark = pytest.mark.distributed
SCORES = {0: 0.9, 1: 0.2, 2: 0.8, 3: 0.4, 4: 0.5, 5: 0.1, 6: 0.9}
EARLY = (
    "evaluation.main_metric=faq/ndcg_at_10", "evaluation.every=1", "checkpoint.every=3",
    "evaluation.early_stopping={patience: 2}",
)  # fmt: skip


def train_with_scores(folder: str, output: str, settings: tuple[str, ...] = (), kill: str = "") -> None:
    train_scored(SCORES, folder, output, (*EARLY, *settings), kill)


def facts(run: Path) -> dict:
    return json.loads((run / "run.json").read_text())


def test_early_stopping_ends_at_the_same_step_whatever_interrupts_the_run(folder: Path) -> None:
    """Steps 3 and 4 are no better than step 2, whose weights become the model; with more patience it goes on."""
    run_ranks(2, train_with_scores, str(folder), "early")
    run = folder / "early"
    assert (facts(run)["finished"], facts(run)["steps"], facts(run)["model_step"]) == (True, 6, 2)
    assert facts(run)["ended_early"]["step"] == 4
    assert "2 evaluations in a row with no better faq/ndcg_at_10 than step 2" in facts(run)["ended_early"]["reason"]
    assert len(outcome(run)[0]) == 4
    assert weights(run / "model") == weights(run / "checkpoints" / "step-00000002" / "model")
    assert (run / "checkpoints" / "latest").read_text() == "step-00000004\n"

    with pytest.raises(AssertionError):  # killed when the end is decided, and before it is written down
        run_ranks(2, train_with_scores, str(folder), "killed", (), "after the last save at 4")
    run_ranks(2, train_with_scores, str(folder), "killed")
    assert facts(folder / "killed")["resumed_from"] == 4
    assert outcome(folder / "killed") == outcome(run)

    ended = (run / "run.json").read_bytes()
    run_ranks(2, train_with_scores, str(folder), "early")  # it is finished: nothing to do
    assert (run / "run.json").read_bytes() == ended
    run_ranks(2, train_with_scores, str(folder), "early", ("evaluation.early_stopping={patience: 5}",))
    assert (facts(run)["resumed_from"], facts(run)["ended_early"], facts(run)["model_step"]) == (4, None, 6)


class Recorder(Callback):
    """Writes down what is called; asks to stop after step 3, on rank 1 only."""

    def __init__(self) -> None:
        self.calls: list[str] = []

    def on_start(self, run):
        self.calls.append("start")

    def on_step(self, step, metrics):
        assert metrics["loss"] > 0
        self.calls.append(f"step {step}")
        return STOP if step == 3 and comm.rank() == 1 else None

    def on_evaluation(self, step, results):
        assert results["faq"]["ndcg_at_10"] >= 0
        self.calls.append(f"evaluation {step}")

    def on_checkpoint(self, step, folder):
        assert (folder / "manifest.json").is_file()
        self.calls.append(f"checkpoint {step}")

    def on_end(self, run):
        self.calls.append(run.outcome)


class FailsAtStep2(Recorder):
    def on_step(self, step, metrics):
        if step == 2:
            raise RuntimeError("a mistake of the user")


def train_with(recorder: type, folder: str, output: str) -> list[str]:
    """Runs on a rank: train with a callback; returns what it was called for."""
    leave_out_report()
    callback = recorder()
    changes = [f"output={folder}/{output}", "evaluation.every=2", "checkpoint.every=2", "training.steps=null",
               "training.epochs=2", "training.epoch_of=faq"]  # fmt: skip
    try:
        trainer.train(load_recipe(f"{folder}/tiny.yaml", changes), [callback])
    except RuntimeError:
        callback.calls.append("raised")
    return callback.calls


def test_a_callback_of_one_rank_ends_the_run_on_all_as_a_finished_one(folder: Path) -> None:
    one, other = run_ranks(2, partial(train_with, Recorder), str(folder), "called")
    assert one == other
    expected = "start, evaluation 0, step 1, step 2, evaluation 2, checkpoint 2, step 3, evaluation 3, checkpoint 3"
    assert ", ".join(one) == f"{expected}, finished"
    run = folder / "called"
    assert (run / "model" / "model.safetensors").is_file()
    assert facts(run)["ended_early"] == {"step": 3, "reason": "Recorder asked for it", "rule": False}
    assert (facts(run)["steps"], facts(run)["epochs"]) == (10, {"epochs": 2.0, "task": "faq"})  # 40 rows, 8 a step
    assert run_ranks(2, partial(train_with, Recorder), str(folder), "called") == [[], []]  # it is finished


def test_a_callback_is_told_of_an_end_by_an_error(folder: Path) -> None:
    (calls,) = run_ranks(1, partial(train_with, FailsAtStep2), str(folder), "failed")
    assert calls == ["start", "evaluation 0", "failed", "raised"]
