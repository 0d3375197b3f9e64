"""The prediction of one step: memory of a rank at each moment, traffic, seconds, and what does not fit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from harness.engine.config import TrainingConfig
from harness.losses.table import Gather
from harness.prediction.counted.micro_batch import UnloadedModel
from harness.prediction.kept import Shape, fitted_graph_bytes, graphs_kept, largest_shapes
from harness.prediction.machine.devices import Device
from harness.prediction.precision import NUMBERS
from harness.prediction.score import ScoreSize
from harness.prediction.seconds import Seconds, seconds
from harness.prediction.states import ModelSize, States, states
from harness.prediction.traffic import traffic
from harness.prediction.zero_settings import ZeroSettings

MARGIN = 0.05  # of a device's memory, for what its allocator cannot use


@dataclass(frozen=True, slots=True)
class Setup:
    """What a prediction needs besides the model. process_bytes: on the device, before the model is there.

    temporaries: bytes per element that the optimizer allocates during its update.
    """

    training: TrainingConfig
    zero: ZeroSettings
    device: Device
    ranks: int
    process_bytes: int
    temporaries: float
    utilisation: float

    @property
    def free_bytes(self) -> int:
        """What the device has for all of it."""
        return int(self.device.memory_bytes * (1 - MARGIN))


@dataclass(frozen=True, slots=True)
class StepSize:
    """A step as it is dealt. shapes: of each rank, (texts, padded length) of its micro-batches; a rank may stand for
    all. padded_rows: of the gathered table, with the padding of ranks that have fewer texts."""

    shapes: Sequence[Sequence[Shape]]
    padded_rows: int
    score: ScoreSize


@dataclass(frozen=True, slots=True)
class Prediction:
    """moments: what a rank's device holds at each moment of a step, bytes by name. sent: bytes that a rank sends in a
    step, by name. host_bytes: of CPU memory per rank, where the device is a GPU. gather: as `loss.gather` chooses."""

    setup: Setup
    size: ModelSize
    moments: Mapping[str, Mapping[str, int]]
    sent: Mapping[str, int]
    flops: int
    seconds: Seconds
    micro_batches: int
    graphs_kept: int
    host_bytes: int
    gather: Gather

    @property
    def peak_moment(self) -> str:
        return _peak_moment(self.moments)

    @property
    def peak_bytes(self) -> int:
        return sum(self.moments[self.peak_moment].values())

    @property
    def free_bytes(self) -> int:
        """What the device has for all of it."""
        return self.setup.free_bytes

    def as_json(self) -> dict[str, Any]:
        """Everything, for scripts. Bytes and seconds; null: not known."""
        setup, times = self.setup, self.seconds
        return {
            "ranks": setup.ranks,
            "device": asdict(setup.device),
            "zero": asdict(setup.zero),
            "precision": setup.training.precision,
            "parameters": self.size.total + self.size.frozen,
            "trained_parameters": self.size.total,
            "micro_batches": self.micro_batches,
            "graphs_kept": self.graphs_kept,
            "gather": self.gather,
            "memory_bytes": {moment: dict(held) for moment, held in self.moments.items()},
            "peak_moment": self.peak_moment,
            "peak_bytes": self.peak_bytes,
            "free_bytes": self.free_bytes,
            "fits": self.peak_bytes <= self.free_bytes,
            "host_bytes": self.host_bytes,
            "sent_bytes": dict(self.sent),
            "flops": self.flops,
            "utilisation": setup.utilisation,
            "seconds": {**asdict(times), "total": times.total},
        }


def predict(setup: Setup, model: UnloadedModel, step: StepSize) -> Prediction:
    """Predict one step: the memory of the rank with the largest micro-batch, the seconds of that with the most work."""
    numbers, on_gpu = NUMBERS[setup.training.precision], setup.device.is_gpu
    size = ModelSize.of(model.encoder, setup.zero.persistence_threshold, setup.training)
    averages = setup.training.ema is not None
    held = states(size, setup.zero, numbers, setup.ranks, setup.temporaries, on_gpu=on_gpu, averages=averages)
    busiest = max(step.shapes, key=lambda shapes: sum(model.forward_flops(shape) for shape in shapes))
    largest = max(step.shapes, key=lambda shapes: max((texts * length for texts, length in shapes), default=0))
    free = setup.free_bytes - _peak(_moments(setup, model, size, held, largest, 0, step))
    kept = graphs_kept(setup.training, model, step.shapes, free, on_gpu=on_gpu)
    flops = _flops(model, busiest, kept, recomputes=model.recomputes) + step.score.flops // setup.ranks
    micro_batches = max(map(len, step.shapes))
    sums = traffic(size, setup.zero, numbers, micro_batches, forwards=2 * micro_batches - kept)
    sent = sums.sent(setup.ranks) | step.score.sent(setup.ranks, step.padded_rows)
    share = sum(size.shares(setup.ranks)) if setup.zero.stage else size.total
    return Prediction(
        setup=setup,
        size=size,
        moments=_moments(setup, model, size, held, largest, kept, step),
        sent=sent,
        flops=flops,
        seconds=seconds(setup.device, numbers.computes_in, flops, setup.utilisation, share, sent, setup.ranks),
        micro_batches=micro_batches,
        graphs_kept=kept,
        host_bytes=held.host,
        gather=step.score.gather(setup.ranks),
    )


def _flops(model: UnloadedModel, shapes: Sequence[Shape], kept: int, *, recomputes: bool) -> int:
    """A backward takes two forwards, less with frozen weights; the embed phase one; a replay without its graph, and
    checkpointing, one more."""
    forwards = [model.forward_flops(shape) for shape in shapes]
    return int(sum(forwards) * (1 + model.forwards_of_a_backward + recomputes)) + sum(forwards[kept:])


def _peak_moment(moments: Mapping[str, Mapping[str, int]]) -> str:
    return max(moments, key=lambda moment: sum(moments[moment].values()))


def _peak(moments: Mapping[str, Mapping[str, int]]) -> int:
    return sum(moments[_peak_moment(moments)].values())


def _moments(
    setup: Setup,
    model: UnloadedModel,
    size: ModelSize,
    held: States,
    shapes: Sequence[Shape],
    kept: int,
    step: StepSize,
) -> dict[str, dict[str, int]]:
    """Bytes by name at each moment of a step. shapes: of the rank with the largest micro-batch; kept: of the first."""
    always = {"process": setup.process_bytes, "weights": held.weights, "optimizer state": held.optimizer}
    buffers = {"DeepSpeed's buffers": held.buffers}
    embedded, between, replayed = _activations(model, held, shapes, kept, step)
    summed = held.summed_gradients if len(shapes) > 1 else 0
    moments = {
        "start": _start(setup, size, held),
        "embed": {"gradients": held.kept_gradients, "activations": embedded, "gathered weights": held.gathered},
        "score": {
            "gradients": held.kept_gradients,
            "activations": between,
            "embedding table": step.score.table_bytes(setup.ranks),
            "loss": step.score.loss_bytes(setup.ranks, on_gpu=setup.device.is_gpu),
        },
        "replay": {
            "gradients": held.kept_gradients + summed,
            "activations": replayed,
            "gathered weights": held.gathered,
        },
        "reduce": {
            "gradients": held.kept_gradients + held.reduce_gradients,
            "copies of gradients": held.reduce_copies,
            "gathered weights": held.gathered // 2,
        },
        "update": {"gradients": held.kept_gradients, "update": held.update},
    }
    moments = {name: moment if name == "start" else always | buffers | moment for name, moment in moments.items()}
    if not setup.device.is_gpu:
        _keep_freed(moments, held)
    return moments


def _start(setup: Setup, size: ModelSize, held: States) -> dict[str, int]:
    """While ZeRO takes the model over: its fp32 weights as they were loaded, beside ZeRO's own.

    Stage 3 converts and divides the weights of the model's files one by one (`load_encoder`, as_stored).
    """
    own = setup.zero.stage > 0
    loaded = size.largest_weight if setup.zero.stage == 3 else size.total + size.frozen
    return {
        "process": setup.process_bytes,
        "weights": loaded * 4 + (held.weights if own else 0),
        "optimizer state": held.optimizer // 3 if own else 0,  # its moments come with the first update
    }


def _activations(
    model: UnloadedModel, held: States, shapes: Sequence[Shape], kept: int, step: StepSize
) -> tuple[int, int, int]:
    """Bytes in the embed phase, between the phases, and in the replay phase."""
    costs = [model.cost(*shape) for shape in largest_shapes(shapes)]
    graphs = 0
    if kept:
        fitted = fitted_graph_bytes(model, step.shapes)
        graphs = int(sum(fitted.of(texts * length, length) for texts, length in shapes[:kept]))
    # A micro-batch's own gradients are among what its backward holds, unless they are added to those before it.
    adds = held.own_gradients and len(shapes) > 1
    backward = max(cost.backward if adds else cost.with_gradients for cost in costs)
    first = costs[0].graph if kept else 0  # a kept graph is replayed where it stands
    embed = max(cost.forward - cost.graph for cost in costs) if kept else 0  # on top of its graph, which is kept
    if kept < len(shapes):
        embed = max(embed, *(cost.embed for cost in costs))
    return graphs + embed, graphs, max(0, graphs - first) + backward


def _keep_freed(moments: dict[str, dict[str, int]], held: States) -> None:
    """On a CPU: what a micro-batch frees stays with the C library's allocator, which uses it for the next one only.

    So it stands beside what the later moments take. Single tensors of many megabytes are given back. Seen in the
    resident memory of 2 ranks at every moment of the first steps, 2026-11-28.
    """
    most = max(moment.get("activations", 0) for moment in moments.values())
    for name in ("embed", "score", "replay", "reduce", "update"):
        moments[name]["activations"] = most
        moments[name]["gathered weights"] = (
            held.gathered if name in ("embed", "replay", "reduce") else held.gathered // 2
        )
