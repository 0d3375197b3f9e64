"""Puts the average in the place of the weights for an evaluation or an export, under every ZeRO stage."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from harness.engine.average.optimizer import averages_of, exchange


@contextmanager
def averaged_weights(optimizer: Any, stage: int) -> Iterator[None]:
    """Inside, the weights of the forward pass are the average; every rank must enter and leave it together.

    Each rank exchanges the part that it updates, and the parts are gathered as after an update. Afterwards weights and
    average are the same bits as before. Without an average, or before the first update, nothing happens.
    """
    pairs = averages_of(optimizer if stage == 0 else optimizer.optimizer)
    if not pairs:
        yield
        return
    _exchange(optimizer, stage, pairs)
    try:
        yield
    finally:
        _exchange(optimizer, stage, pairs)


def _exchange(optimizer: Any, stage: int, pairs: list[Any]) -> None:
    exchange(pairs)
    if stage in (1, 2):
        optimizer.update_lp_params()
    elif stage == 3:
        for index in range(len(optimizer.fp32_partitioned_groups_flat)):
            optimizer._reassign_or_swap_out_partitioned_parameters(index)
        if optimizer.persistent_parameters:
            optimizer.persistent_parameters[0].all_gather(optimizer.persistent_parameters)
