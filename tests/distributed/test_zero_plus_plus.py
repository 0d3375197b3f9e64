"""Hierarchical partitioning of ZeRO++ (`zero_hpz_partition_size`) gives the gradients and weights of plain ZeRO-3."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from tests.ranks import run_ranks

pytestmark = pytest.mark.distributed


def both() -> list[list[np.ndarray]]:
    """Runs on a rank: what two steps of plain ZeRO-3 give, and two with weights divided within hosts of two ranks."""
    return [two_steps(keys) for keys in ({}, {"zero_hpz_partition_size": 2})]


def two_steps(keys: dict[str, Any]) -> list[np.ndarray]:
    """The gradients of the second step and the weights after it, with texts of the rank's own."""
    from harness import comm
    from harness.engine.config import TrainingConfig
    from harness.engine.zero import ZeroEngine
    from harness.types import TokenBatch
    from tests.distributed.test_prediction import make_module

    tree = {"zero_optimization": {"stage": 3, "stage3_param_persistence_threshold": 0, **keys}}
    engine = ZeroEngine(make_module(), TrainingConfig(steps=3, learning_rate=1e-2), tree)
    engine.train_mode(True)
    torch.manual_seed(comm.rank())
    batch = TokenBatch(torch.randint(5, 100, (2, 8)), torch.ones(2, 8, dtype=torch.int64))
    for step in (1, 2):
        with torch.no_grad():
            engine.forward(batch)
        for index in range(2):
            engine.set_boundary(index == 1)
            embedding_BD = engine.forward(batch)
            engine.accumulate(embedding_BD, torch.ones_like(embedding_BD))
        gradients = engine.full_gradients()
        engine.update_weights(step)
    return [value.numpy() for value in (*gradients.values(), *engine.module_state().values())]


def test_weights_that_are_divided_within_a_host_give_the_same_steps() -> None:
    plain, divided = run_ranks(4, both, timeout=150)[0]
    for found, expected in zip(divided, plain, strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
