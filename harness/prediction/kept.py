"""Which micro-batches keep the graph of their embed phase, so that the replay phase needs no second forward."""

from __future__ import annotations

from collections.abc import Sequence

from harness.engine.budget import SHARE_ON_CPU, SHARE_ON_GPU
from harness.engine.config import TrainingConfig
from harness.engine.graphs import MEBIBYTE, GraphBytes, MeasuredGraph, graphs_that_fit
from harness.prediction.counted.micro_batch import SHORT_AND_LONG, UnloadedModel

Shape = tuple[int, int]  # texts and padded length of a micro-batch


def graphs_kept(
    training: TrainingConfig,
    model: UnloadedModel,
    shapes: Sequence[Sequence[Shape]],
    free_bytes: float,
    *,
    on_gpu: bool,
) -> int:
    """How many micro-batches of every rank, counted from the first, keep their graphs: as `GraphChoice` chooses.

    shapes: of the micro-batches of each rank. free_bytes: what a step without kept graphs leaves of the device.
    """
    setting = training.activation_memory
    share = SHARE_ON_GPU if on_gpu else SHARE_ON_CPU
    budget = max(0.0, free_bytes) * share if setting == "auto" else int(setting) * MEBIBYTE
    if budget <= 0:
        return 0
    sizes = [[(texts * length, length) for texts, length in of_rank] for of_rank in shapes]
    return graphs_that_fit(zip(*sizes, strict=True), fitted_graph_bytes(model, shapes), budget)


def fitted_graph_bytes(model: UnloadedModel, shapes: Sequence[Sequence[Shape]]) -> GraphBytes:
    """The bytes of a graph by its size, from graphs that are counted for other reasons, too: this costs no time."""
    largest = largest_shapes([shape for of_rank in shapes for shape in of_rank])
    counted = dict.fromkeys([*largest, *((1, length) for length in SHORT_AND_LONG)])
    return GraphBytes.fit([MeasuredGraph(n * length, length, model.cost(n, length).graph) for n, length in counted])


def largest_shapes(shapes: Sequence[Shape]) -> list[Shape]:
    """The shapes that may need the most memory: most tokens, and most pairs of tokens."""
    chosen = [
        max(shapes, key=lambda shape: shape[0] * shape[1]),
        max(shapes, key=lambda shape: shape[0] * shape[1] ** 2),
    ]
    return list(dict.fromkeys(chosen))
