"""What a run exports are the fp32 weights that its optimizer updates, in every precision of the forward pass."""

from __future__ import annotations

import json

import pytest
import torch
from safetensors.torch import load_file

from tests.integration.test_resume import train
from tests.ranks import run_ranks

pytestmark = pytest.mark.distributed


HALVES = {"bf16": torch.bfloat16, "bf16_weights": torch.bfloat16, "fp16": torch.float16}


@pytest.mark.parametrize(
    ("precision", "stage"), [("bf16", 1), ("fp16", 1), ("bf16_weights", 1), ("bf16_weights", 2), ("bf16_weights", 3)]
)
def test_an_export_holds_more_than_the_rounded_weights_that_a_forward_pass_computes_with(folder, precision, stage):
    """In bf16 an update of a weight by less than 1/256 of it is lost: the export would be of another model."""
    settings = (f"training.precision={precision}", "training.steps=2", "evaluation.data=[]", "checkpoint.every=2")
    run, dtype = folder / f"{precision}{stage}", HALVES[precision]
    run_ranks(1 + stage // 3, train, str(folder), run.name, (*settings, f"deepspeed=zero{stage}"))
    for model in (run / "model", run / "checkpoints" / "step-00000002" / "model"):
        weights = load_file(model / "model.safetensors")
        assert {weight.dtype for weight in weights.values()} == {torch.float32}
        assert json.loads((model / "config.json").read_text())["dtype"] == "float32"
        trained = [weight for name, weight in weights.items() if name.endswith("query.weight")]
        assert trained
        for weight in trained:
            assert (weight != weight.to(dtype).float()).float().mean() > 0.8
