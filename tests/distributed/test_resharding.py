"""A checkpoint is continued by another number of ranks and at another ZeRO stage: the loss curve goes on."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from tests.ranks import run_ranks
from tests.tiny import make_data, make_model, make_recipe

pytestmark = pytest.mark.distributed

STEPS, STOP = 6, 3
# Without dropout, whose masks depend on the ranks; decay and a rate that make a wrong moment or group show at once.
SETTINGS = (
    "training.dropout=0", "training.weight_decay=0.1", "training.learning_rate=3e-3", "evaluation.every=0",
    f"checkpoint.every={STOP}", "training.max_grad_norm=0",
)  # fmt: skip


def train(output: str, deepspeed: str, settings: tuple[str, ...] = (), stop: int | None = None) -> list[float]:
    """Runs on a rank: train, up to a step if asked. Returns the losses of this start."""
    import torch

    from harness import trainer
    from harness.config import load_recipe
    from tests.ranks import leave_out_report

    torch.set_num_threads(1)
    leave_out_report()
    losses = []
    original = trainer.train_step

    def counted(run, step):
        if stop is not None and step.number > stop:
            raise KeyboardInterrupt
        metrics = original(run, step)
        losses.append(metrics["loss"])
        return metrics

    trainer.train_step = counted
    changes = [f"output={output}", f"deepspeed={deepspeed}", *SETTINGS, *settings]
    try:
        trainer.train(load_recipe(f"{Path(output).parent}/tiny.yaml", changes))
    except KeyboardInterrupt:
        pass
    finally:
        trainer.train_step = original
    return losses


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The tiny folder, with sizes that no number of ranks divides."""
    folder = tmp_path_factory.mktemp("resharding")
    make_model(folder / "model")
    make_data(folder)
    make_recipe(folder)
    return folder


def several(folder: str, jobs: list[tuple[str, str, str]], settings: tuple[str, ...], stop: int | None) -> list:
    """Runs on a rank: one process group for several runs (output, deepspeed, the run to copy the checkpoints of)."""
    from harness import comm

    comm.shutdown = lambda: None
    losses = []
    for output, deepspeed, source in jobs:
        if source and comm.is_main():
            shutil.copytree(f"{folder}/{source}", f"{folder}/{output}")
        comm.barrier()
        losses.append(train(f"{folder}/{output}", deepspeed, settings, stop))
    return losses


def start(folder: Path, ranks: int, stages: tuple[int, ...], settings: tuple[str, ...] = ()) -> list[list[float]]:
    jobs = [(f"start{ranks}_{stage}{len(settings)}", f"zero{stage}", "") for stage in stages]
    return run_ranks(ranks, several, str(folder), jobs, settings, STOP)[0]


def go_on(folder: Path, jobs: list[tuple[int, int, int]], ranks: int, settings: tuple[str, ...] = ()) -> list:
    """jobs: (ranks and stage that saved, stage that continues)."""
    named = [
        (
            f"from{before}_{saved}_to{ranks}_{stage}{len(settings)}",
            f"zero{stage}",
            f"start{before}_{saved}{len(settings)}",
        )
        for before, saved, stage in jobs
    ]
    return run_ranks(ranks, several, str(folder), named, settings, None)[0]


@pytest.fixture(scope="module")
def whole(folder) -> list[float]:
    """The losses of a run that one rank trains from beginning to end."""
    return run_ranks(1, train, str(folder / "whole"), "zero1")[0]


@pytest.fixture(scope="module")
def started(folder) -> None:
    start(folder, 1, (1, 3))
    start(folder, 2, (0, 1, 2, 3))


@pytest.mark.parametrize(
    ("ranks", "jobs"),
    [
        (1, [(2, 0, 1), (2, 1, 0), (2, 2, 3), (2, 3, 1)]),
        (2, [(1, 1, 2), (1, 3, 0), (2, 1, 3), (2, 3, 2), (2, 0, 3)]),
        (3, [(2, 1, 1), (2, 2, 3), (2, 3, 3), (2, 3, 2)]),
    ],
    ids=["on 1 rank", "on 2 ranks", "on 3 ranks"],
)
def test_the_loss_curve_goes_on_with_other_ranks_and_stages(folder, whole, started, ranks, jobs):
    assert len(whole) == STEPS
    for job, losses in zip(jobs, go_on(folder, jobs, ranks), strict=True):
        np.testing.assert_allclose(losses, whole[STOP:], rtol=2e-4, err_msg=str(job))


def test_the_loss_curve_goes_on_with_another_budget_of_a_micro_batch(folder, whole, started):
    job = [("smaller_budget", "zero1", "start2_10")]
    (losses,) = run_ranks(2, several, str(folder), job, ("training.micro_batch_tokens=64",), None)[0]
    np.testing.assert_allclose(losses, whole[STOP:], rtol=2e-4)


def test_without_the_moments_the_curve_would_not_go_on(folder, whole, started):
    """So the comparison above can see a lost optimizer state: a run that starts anew from the same weights differs."""
    fresh = run_ranks(1, several_without_moments, str(folder))[0]
    assert np.abs(np.array(fresh) / whole[STOP:] - 1).max() > 2e-3


def several_without_moments(folder: str) -> list[float]:
    from harness.engine.resharding import divide

    original = divide._make_room

    def forget(values):
        return {key: value if key == "fp32" else value * 0 for key, value in values.items()}

    taken = dict(divide._TAKE)
    divide._TAKE.update({k: (lambda o, w, v, take=take: take(o, w, forget(v))) for k, take in taken.items()})
    divide._make_room = lambda optimizer, stage, num_updates, kinds: original(optimizer, stage, 0.0, kinds)
    return several(folder, [("forgotten", "zero1", "start2_20")], (), None)[0]


def test_bf16_weights_keep_their_fp32_copies(folder):
    """A copy made from rounded weights would lose what Adam has added below their precision."""
    settings = ("training.precision=bf16_weights",)
    run_ranks(2, several, str(folder), [("bf16_whole", "zero1", "")], settings, None)
    start(folder, 2, (1, 2, 3), settings)
    expected = [json.loads(line)["loss"] for line in (folder / "bf16_whole" / "metrics.jsonl").read_text().splitlines()]
    jobs = [(2, 1, 3), (2, 2, 1), (2, 3, 2)]
    for job, losses in zip(jobs, go_on(folder, jobs, 1, settings), strict=True):
        np.testing.assert_allclose(losses, expected[STOP:], rtol=2e-2, err_msg=str(job))


def test_a_change_of_ranks_is_said_and_recorded(folder, started):
    run = json.loads((folder / "from2_1_to1_00" / "run.json").read_text())
    assert (run["world_size"], run["resumed_from"]) == (1, STOP)
