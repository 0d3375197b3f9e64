"""Which numbers the run's text encoders compute with."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from harness.config import load_recipe
from harness.encoder.attention.soft_mask import SoftMask
from harness.run.encoders import TextEncoders


@pytest.mark.parametrize(
    ("changes", "evaluation"),
    [((), "exact"), (("model.attention=flash_attention_2",), "autocast")],
    ids=["other attention", "flash attention, which has no fp32"],
)
def test_evaluation_computes_like_the_exported_model_and_mining_like_the_loss(folder, changes, evaluation):
    soft_mask = SoftMask(4)
    engine: Any = SimpleNamespace(
        forward="autocast", forward_without_autocast="exact", train_mode=lambda on: None, precision="bf16",
        module=SimpleNamespace(soft_mask=soft_mask),
    )  # fmt: skip
    config = load_recipe(str(folder / "tiny.yaml"), ["training.precision=bf16", *changes]).config
    encoders = TextEncoders(config, engine, SimpleNamespace(), 64)  # type: ignore[arg-type]
    task: Any = SimpleNamespace(query_max_length=8, document_max_length=8)
    soft_mask.at_step(1)
    assert encoders.for_evaluation()._forward == evaluation
    assert not soft_mask.is_used  # bidirectional, as the exported model is
    assert encoders.for_task(task)._forward == "autocast"
    assert (soft_mask.is_used, soft_mask.weight) == (True, 0.25)
