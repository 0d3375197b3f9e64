"""Which micro-batches keep the graph of their embed phase, so that the replay phase needs no second forward."""

from __future__ import annotations

from collections.abc import Sequence

from harness.engine.config import TrainingConfig
from harness.prediction.counted.micro_batch import UnloadedModel

Shape = tuple[int, int]  # texts and padded length of a micro-batch


def kept_graphs(training: TrainingConfig, model: UnloadedModel, shapes: Sequence[Shape]) -> list[Shape]:
    """The shapes of one rank's micro-batches whose graphs are kept; see `Step.reuses_graph`."""
    return list(shapes) if training.keep_graph and len(shapes) == 1 else []
