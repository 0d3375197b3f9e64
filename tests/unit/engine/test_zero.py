"""The settings that the engine gives DeepSpeed, and the hiding of DeepSpeed's output."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.engine.config import TrainingConfig
from harness.engine.optimizer import offloads_optimizer
from harness.engine.precision import LossScale
from harness.engine.zero import ZeroEngine, engine_json


@pytest.mark.parametrize(
    ("offload", "on_cpu"), [(None, False), ({}, False), ({"device": "cpu"}, True), ({"device": "nvme"}, True)]
)
def test_the_optimizer_runs_on_the_cpu_where_its_state_leaves_the_gpu(offload: dict | None, on_cpu: bool) -> None:
    assert offloads_optimizer({"zero_optimization": {"stage": 2, "offload_optimizer": offload}}) is on_cpu


def test_weights_in_half_precision_sum_gradients_in_fp32() -> None:
    training = TrainingConfig(steps=1, precision="bf16_weights")
    assert engine_json({}, training)["data_types"] == {"grad_accum_dtype": "fp32"}


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_deepspeed_is_told_of_no_half_precision_where_the_weights_are_fp32(precision: str) -> None:
    """Its own torch_autocast would add up gradients in half precision; its fp16 would scale them before the sum."""
    written = engine_json({}, TrainingConfig(steps=1, precision=precision))
    assert not {"bf16", "fp16", "torch_autocast", "amp", "data_types"} & set(written)


def test_what_deepspeed_prints_while_it_saves_and_loads_is_not_shown(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    class Printing:
        def save_checkpoint(self, *_: object, **__: object) -> None:
            print("saving")

        def load_checkpoint(self, *_: object, **__: object) -> tuple[str, dict]:
            print("loading")
            return "somewhere", {"loss_scale": {}}

    engine = object.__new__(ZeroEngine)
    engine.engine = Printing()
    engine._loss_scale, engine._saves_frozen = LossScale("fp32"), True
    engine.save(tmp_path)
    engine.load(tmp_path)
    assert capsys.readouterr().out == ""
