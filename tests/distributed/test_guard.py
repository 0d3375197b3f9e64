"""A loss or gradient that is not finite stops all ranks; the message names the texts; the weights are kept aside."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from harness.config import load_recipe
from tests.ranks import leave_out_report, run_ranks

pytestmark = pytest.mark.distributed


def message_of_training(
    recipe: str, changes: tuple[str, ...], poison: tuple[int, int, int] | None = None, factor: float = float("inf")
) -> str:
    """Runs on a rank: train and return the error message.

    poison: (step, rank, micro-batch) whose gradient is multiplied by the factor.
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
                embedding.register_hook(lambda g: g * factor)
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
    assert (output / "checkpoints" / "stopped-step-00000002" / "manifest.json").is_file()
    assert len((output / "metrics.jsonl").read_text().splitlines()) == 2


@pytest.mark.parametrize("stage", ["zero0", "zero1"])
def test_gradients_with_an_infinite_norm_stop_the_run_before_the_weights_change(folder, stage):
    """Each gradient is finite, so only the norm tells that clipping would make all of them zero."""
    recipe, smooth, output = str(folder / "tiny.yaml"), folder / f"smooth-{stage}", folder / f"norm-{stage}"
    settings = (f"deepspeed={stage}", "evaluation.every=0", "checkpoint.every=2")
    run_ranks(1, message_of_training, recipe, (f"output={smooth}", "checkpoint.keep=9", *settings))
    found = run_ranks(1, message_of_training, recipe, (f"output={output}", *settings), (3, 0, 0), 1e37)
    assert found[0].startswith("step 3: the norm of the gradients (each of them is finite) is not finite (task faq, ")
    weights = [path / "checkpoints" / "step-00000002" / "model" / "model.safetensors" for path in (smooth, output)]
    assert weights[0].read_bytes() == weights[1].read_bytes()
    assert len((output / "metrics.jsonl").read_text().splitlines()) == 2


def test_what_was_trained_until_a_stop_is_kept_aside_and_continued_from_only_if_asked(folder):
    """The checkpoint before it stays, though only one is kept; from there the run ends as one without the fault."""
    recipe, output, smooth = str(folder / "tiny.yaml"), folder / "broken", folder / "smooth"
    settings = ("checkpoint.every=2", "checkpoint.keep=1", "evaluation.every=0")
    run_ranks(1, message_of_training, recipe, (f"output={output}", *settings), (4, 0, 0))
    checkpoints = output / "checkpoints"
    assert {path.name for path in checkpoints.iterdir()} == {"latest", "step-00000002", "stopped-step-00000003"}
    assert (checkpoints / "latest").read_text() == "step-00000002\n"
    copy = Path(shutil.copytree(output, folder / "copy"))
    for path in (output, smooth):
        run_ranks(1, message_of_training, recipe, (f"output={path}", *settings))
    assert json.loads((output / "run.json").read_text())["resumed_from"] == 2
    models = [path / "model" / "model.safetensors" for path in (output, smooth)]
    assert models[0].read_bytes() == models[1].read_bytes()
    assert (checkpoints / "stopped-step-00000003" / "manifest.json").is_file()

    slower = (f"output={copy}", *settings, "training.learning_rate=1.0e-4", "checkpoint.resume=3")
    assert run_ranks(1, message_of_training, recipe, slower) == ["trained to the end"]
    facts = json.loads((copy / "run.json").read_text())
    assert facts["resumed_from"] == 3
    assert facts["changes"][0]["changed"] == {"training.learning_rate": [1e-3, 1e-4]}
    rates = [json.loads(line)["learning_rate"] for line in (copy / "metrics.jsonl").read_text().splitlines()]
    assert rates[2] == pytest.approx(10 * rates[3] * 4 / 3)  # linear: 4 and 3 sixths of the rate are left


def test_weights_that_explode_are_caught_at_the_next_loss_and_the_texts_are_named(folder):
    changes = (f"output={folder / 'exploded'}", "training.learning_rate=1.0e30", "evaluation.every=0")
    found = run_ranks(2, message_of_training, str(folder / "tiny.yaml"), changes)
    assert found[0] == found[1]
    assert found[0].startswith("step 2: an embedding is not finite (task faq, similar, intents; texts ")
    assert str(Path(folder / "retrieval.jsonl")) in found[0] or "sts" in found[0]
    assert "lower training.learning_rate" in found[0]
