"""`training.ema` and `training.max_grad_value` against a loop by hand, under ZeRO 0 to 3; what is scored and saved."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tests.integration.test_resume import outcome
from tests.integration.test_resume import train as train_run
from tests.ranks import run_ranks

pytestmark = pytest.mark.distributed
EMA, CUT, RATE, DECAY = 0.25, 2e-3, 1e-3, 0.1
SETTINGS = (
    "training.steps=3", "training.schedule=constant", "training.warmup_ratio=0", f"training.learning_rate={RATE}",
    f"training.weight_decay={DECAY}", f"training.ema={EMA}", f"training.max_grad_value={CUT}", "checkpoint.every=2",
    "training.max_grad_norm=0", "evaluation.every=0", "training.dropout=0",
)  # fmt: skip


def train(folder: str, output: str, *settings: str, stop: int | None = None) -> list[tuple[dict, dict, dict, dict]]:
    """Runs on a rank: (gradients, weights before, after, average after) of every step of this start, on rank 0."""
    from harness import trainer
    from harness.config import load_recipe
    from tests.ranks import leave_out_report

    leave_out_report()
    seen, original = [], trainer.update_weights

    def watched(engine, step):
        if stop is not None and step.number > stop:
            raise KeyboardInterrupt
        gradients, before = engine.full_gradients(), engine.module_state()
        metrics = original(engine, step)
        after = engine.module_state()
        with engine.averaged_weights():
            average = engine.module_state()
        again = engine.module_state()
        assert all(torch.equal(again[name], after[name]) for name in after)
        seen.append((gradients, before, after, average))
        return metrics

    trainer.update_weights = watched
    try:
        trainer.train(load_recipe(f"{folder}/tiny.yaml", [f"output={folder}/{output}", *SETTINGS, *settings]))
    except KeyboardInterrupt:
        pass
    finally:
        trainer.update_weights = original
    return seen


def by_stage(folder: str, stages: tuple[int, ...]) -> dict[int, list]:
    """Runs on a rank: one process group for a run of each stage, and two that stop after step 2."""
    from harness import comm

    comm.shutdown = lambda: None
    found = {stage: train(folder, f"zero{stage}", f"deepspeed=zero{stage}") for stage in stages}
    for stage in (1, 3):
        train(folder, f"moved{stage}", f"deepspeed=zero{stage}", stop=2)
    return found


@pytest.fixture(scope="module")
def runs(folder: Path) -> dict[int, list]:
    return run_ranks(2, by_stage, str(folder), (0, 1, 2, 3))[0]


@pytest.mark.parametrize("stage", [0, 1, 2, 3])
def test_average_and_cut_gradients_are_those_of_a_loop_by_hand(runs: dict[int, list], stage: int) -> None:
    """Every element is cut once, after the gradients of all ranks are summed, and whatever rank owns it."""
    steps = runs[stage]
    assert len(steps) == 3
    trained = list(steps[0][0])
    start = steps[0][1]
    average = {name: start[name].double() for name in trained}
    moments = {name: (torch.zeros_like(average[name]), torch.zeros_like(average[name])) for name in trained}
    weights = {name: start[name].double() for name in trained}
    num_cut = 0
    for number, (gradients, _, after, averaged) in enumerate(steps, start=1):
        decay = min(EMA, (1 + number) / (10 + number))
        assert (decay < EMA) == (number == 1)  # both sides of the warm-up are seen
        for name in trained:
            gradient = gradients[name].double().clamp(-CUT, CUT)
            num_cut += int((gradients[name].abs() > CUT).sum())
            first, second = moments[name]
            first.mul_(0.9).add_(gradient, alpha=0.1)
            second.mul_(0.999).addcmul_(gradient, gradient, value=0.001)
            weight = weights[name]
            if weight.ndim >= 2:
                weight.mul_(1 - RATE * DECAY)
            update = (first / (1 - 0.9**number)) / ((second / (1 - 0.999**number)).sqrt() + 1e-8)
            weight.sub_(RATE * update)
            average[name] = decay * average[name] + (1 - decay) * weight
            # An element whose gradient is almost 0 is steered by rounding; Adam moves it by a whole rate.
            sure = gradients[name].abs() > 1e-6
            close = {"rtol": 1e-5, "atol": 2e-6}
            torch.testing.assert_close(after[name].double()[sure], weight[sure], **close)
            torch.testing.assert_close(averaged[name].double()[sure], average[name][sure], **close)
            weight.copy_(after[name])  # each step from the run's own weights
    assert num_cut > 100


def test_the_model_is_the_average(folder: Path, runs: dict[int, list]) -> None:
    for stage, steps in runs.items():
        _, _, after, average = steps[-1]
        exported = load_file(folder / f"zero{stage}" / "model" / "model.safetensors")
        names = [name for name in exported if f"backbone.{name}" in average]  # not the pooler, which is not trained
        pairs = [(exported[name], average[f"backbone.{name}"], after[f"backbone.{name}"]) for name in names]
        assert [n for n, (model, mean, _) in zip(names, pairs, strict=True) if not torch.equal(model, mean)] == [], (
            stage
        )
        assert not all(torch.equal(model, last) for model, _, last in pairs)


def test_a_killed_and_continued_run_has_the_same_average_bit_for_bit(folder: Path) -> None:
    """Killed after step 3, it goes on from the checkpoint of step 2."""
    settings = ("training.ema=0.5", "training.steps=4", "evaluation.every=0")
    run_ranks(2, train_run, str(folder), "whole", settings)
    with pytest.raises(AssertionError, match="no result"):
        run_ranks(2, train_run, str(folder), "killed", settings, "after step 3")
    run_ranks(2, train_run, str(folder), "killed", settings)
    assert json.loads((folder / "killed" / "run.json").read_text())["resumed_from"] == 2
    assert outcome(folder / "killed") == outcome(folder / "whole")


def test_other_ranks_and_stages_go_on_with_the_same_average(folder: Path, runs: dict[int, list]) -> None:
    """An average that was lost would start again from the weights after step 2."""
    (_, _, two, _), (_, _, three, expected) = runs[3][1:]
    for before, now in ((3, 1), (1, 0)):
        ((_, _, _, average),) = run_ranks(1, train, str(folder), f"moved{before}", f"deepspeed=zero{now}")[0]
        decay = min(EMA, 4 / 13)
        lost = {name: decay * two[name] + (1 - decay) * three[name] for name in two}
        assert distance(average, expected) < 0.1 * distance(lost, expected)


def distance(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> float:
    return float(torch.stack([(one[name] - other[name]).norm() for name in one]).norm())
