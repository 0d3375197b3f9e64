"""A loss or gradient that is not finite stops all ranks; the message names the texts; a checkpoint remains."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from harness.config import load_recipe
from tests.ranks import leave_out_report, run_ranks

pytestmark = pytest.mark.distributed


def message_of_training(recipe: str, changes: tuple[str, ...], poison: tuple[int, int, int] | None = None) -> str:
    """Runs on a rank: train and return the error message.

    poison: (step, rank, micro-batch) whose gradient becomes inf.
    """
    from harness import comm
    from harness.engine.zero import ZeroEngine
    from harness.trainer import train

    leave_out_report()
    if poison is not None:
        counts = {"step": 1, "batch": -1}

        def accumulate(self, embedding, gradient, original=ZeroEngine.accumulate):
            counts["batch"] += 1
            if (counts["step"], comm.rank(), counts["batch"]) == poison:
                embedding.register_hook(lambda g: g * float("inf"))
            return original(self, embedding, gradient)

        def step(self, number, original=ZeroEngine.update_weights):
            counts.update(step=number + 1, batch=-1)
            return original(self, number)

        ZeroEngine.accumulate, ZeroEngine.update_weights = accumulate, step  # type: ignore[method-assign]
    try:
        train(load_recipe(recipe, changes))
    except ValueError as error:
        return str(error)
    return "trained to the end"


@pytest.mark.parametrize("stage", ["zero1", "zero3"])
def test_a_gradient_that_is_not_finite_on_one_rank_stops_all_ranks_before_the_weights_change(folder, stage):
    output = folder / stage
    changes = (f"output={output}", f"deepspeed={stage}", "checkpoint.every=100", "evaluation.every=0")
    found = run_ranks(2, message_of_training, str(folder / "tiny.yaml"), changes, (3, 1, 1))
    assert found[0] == found[1]
    assert found[0].startswith("step 3: a parameter's gradient is not finite (task ")
    assert ".jsonl:" in found[0]
    assert (output / "checkpoints" / "step-00000002" / "manifest.json").is_file()
    assert len((output / "metrics.jsonl").read_text().splitlines()) == 2


def test_the_run_continues_from_the_checkpoint_that_was_left(folder):
    """The continued steps, without the fault, equal those of a run that never had the fault."""
    changes = ("checkpoint.every=100", "evaluation.every=0")
    for output, poison in (("broken", (3, 0, 0)), ("broken", None), ("smooth", None)):
        run_ranks(2, message_of_training, str(folder / "tiny.yaml"), (f"output={folder / output}", *changes), poison)
    models = [folder / name / "model" / "model.safetensors" for name in ("broken", "smooth")]
    assert models[0].read_bytes() == models[1].read_bytes()
    assert json.loads((folder / "broken" / "run.json").read_text())["resumed_from"] == 2


def test_weights_that_explode_are_caught_at_the_next_loss_and_the_texts_are_named(folder):
    changes = (f"output={folder / 'exploded'}", "training.learning_rate=1.0e30", "evaluation.every=0")
    found = run_ranks(2, message_of_training, str(folder / "tiny.yaml"), changes)
    assert found[0] == found[1]
    assert found[0].startswith("step 2: an embedding is not finite (task faq, similar, intents; texts ")
    assert str(Path(folder / "retrieval.jsonl")) in found[0] or "sts" in found[0]
    assert "lower training.learning_rate" in found[0]
