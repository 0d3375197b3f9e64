"""The micro-batch size that is chosen when a run is built."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from harness.engine.checkpoint import Checkpoint
from harness.run import build

ENCODER: Any = None  # used on a GPU only, for its size


@pytest.mark.parametrize(("setting", "expected"), [("auto", 256), (512, 512)])
def test_a_continued_run_divides_its_texts_into_micro_batches_as_before(setting: int | str, expected: int) -> None:
    """With `auto` another machine might choose another size, and dropout masks depend on the micro-batches."""
    config: Any = SimpleNamespace(
        training=SimpleNamespace(micro_batch_tokens=setting, precision="fp32", activation_memory="auto")
    )
    checkpoint = Checkpoint(Path("step-00000002"), {"step": 2, "micro_batch_tokens": 256})
    assert build._micro_batch_tokens(config, ENCODER, checkpoint) == expected


def test_a_checkpoint_without_the_budget_of_its_run_is_refused() -> None:
    config: Any = SimpleNamespace(training=SimpleNamespace(micro_batch_tokens="auto"))
    for state in ({"step": 2}, {"step": 2, "micro_batch_tokens": "many"}):
        with pytest.raises(ValueError, match=r"state\.json: got micro_batch_tokens .*, expected the budget of the run"):
            build._micro_batch_tokens(config, ENCODER, Checkpoint(Path("step-00000002"), state))


@pytest.mark.parametrize(("activation_memory", "expected"), [("auto", 2048), (64, 2048), (0, 1024)])
def test_a_fresh_run_that_keeps_no_graphs_takes_small_micro_batches(activation_memory: Any, expected: int) -> None:
    training = SimpleNamespace(micro_batch_tokens="auto", precision="fp32", activation_memory=activation_memory)
    config: Any = SimpleNamespace(training=training)
    assert build._micro_batch_tokens(config, ENCODER, None) == expected


def test_a_fresh_run_takes_the_number_of_its_recipe() -> None:
    config: Any = SimpleNamespace(
        training=SimpleNamespace(micro_batch_tokens=128, precision="fp32", activation_memory=0)
    )
    assert build._micro_batch_tokens(config, ENCODER, None) == 128
