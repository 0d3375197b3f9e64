"""The settings that the engine gives DeepSpeed, and the hiding of DeepSpeed's output."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.engine.config import TrainingConfig
from harness.engine.zero import ZeroEngine, engine_json, offloads_optimizer


@pytest.mark.parametrize(
    ("offload", "on_cpu"), [(None, False), ({}, False), ({"device": "cpu"}, True), ({"device": "nvme"}, True)]
)
def test_the_optimizer_runs_on_the_cpu_where_its_state_leaves_the_gpu(offload: dict | None, on_cpu: bool) -> None:
    assert offloads_optimizer({"zero_optimization": {"stage": 2, "offload_optimizer": offload}}) is on_cpu


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_half_precision_sums_gradients_in_fp32(precision: str) -> None:
    training = TrainingConfig(steps=1, precision=precision)
    assert engine_json({}, training)["data_types"] == {"grad_accum_dtype": "fp32"}


def test_what_deepspeed_prints_while_it_saves_and_loads_is_not_shown(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    class Printing:
        def save_checkpoint(self, *_: object, **__: object) -> None:
            print("saving")

        def load_checkpoint(self, *_: object, **__: object) -> tuple[str, dict]:
            print("loading")
            return "somewhere", {}

    engine = object.__new__(ZeroEngine)
    engine.engine = Printing()
    engine.save(tmp_path)
    engine.load(tmp_path)
    assert capsys.readouterr().out == ""
