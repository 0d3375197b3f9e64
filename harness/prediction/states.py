"""Bytes of weights, gradients, optimizer state and DeepSpeed's buffers on one rank, by ZeRO stage, at each moment.

The formulas were read in DeepSpeed 0.19 (`runtime/zero/stage_1_and_2.py`, `stage3.py`, `runtime/engine.py`,
`bf16_optimizer.py`) and are compared with the tensors of real engines in tests/distributed/test_prediction.py.

Sizes are numbers of elements unless a name ends with `bytes`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import takewhile

from torch import nn

from harness.engine.config import TrainingConfig
from harness.engine.optimizer import groups_of
from harness.prediction.precision import Numbers
from harness.prediction.zero_settings import ZeroSettings

_FP32, _FP64 = 4, 8
_ADAM_MOMENTS = 2
_PLAIN = TrainingConfig(steps=1)
_ALIGNMENT = 2  # elements by which every rank's part of a group is rounded up (nccl_start_alignment_factor)


@dataclass(frozen=True, slots=True)
class ModelSize:
    """Numbers of elements of the trained parameters: all, the groups of the optimizer, the largest, those that stage 3
    keeps whole on every rank; of the weights that are not trained: all, and those that stage 3 keeps whole.

    largest_weight: of all weights, whether they are trained or not. unpassed: of the weights that stage 3 divides, the
    frozen ones before the first trained one, in the order of the module: no backward comes to them.
    """

    total: int
    groups: tuple[int, ...]
    largest: int
    persistent: int
    frozen: int
    frozen_persistent: int
    largest_weight: int
    unpassed: int

    @classmethod
    def of(cls, module: nn.Module, persistence_threshold: int, training: TrainingConfig = _PLAIN) -> ModelSize:
        """The sizes of a module; the groups are those of `harness.engine.optimizer.build_optimizer`."""
        trained = [p.numel() for p in module.parameters() if p.requires_grad]
        frozen = [p.numel() for p in module.parameters() if not p.requires_grad]
        before = takewhile(lambda parameter: not parameter.requires_grad, module.parameters())
        groups = groups_of(module, training)
        return cls(
            total=sum(trained),
            groups=tuple(sum(weight.numel() for weight in group.weights.values()) for group in groups),
            largest=max(trained),
            persistent=sum(size for size in trained if size < persistence_threshold),
            frozen=sum(frozen),
            frozen_persistent=sum(size for size in frozen if size < persistence_threshold),
            largest_weight=max(trained + frozen),
            unpassed=sum(p.numel() for p in before if p.numel() >= persistence_threshold),
        )

    @property
    def sharded(self) -> int:
        """The weights that stage 3 gathers for every use and releases after it."""
        return self.total - self.persistent + self.frozen - self.frozen_persistent

    @property
    def kept_whole(self) -> int:
        """The weights that stage 3 keeps whole on every rank."""
        return self.persistent + self.frozen_persistent

    def shares(self, ranks: int) -> list[int]:
        """The part of each group that one rank owns, rounded up."""
        return [-(-size // (_ALIGNMENT * ranks)) * _ALIGNMENT for size in self.groups]


@dataclass(frozen=True, slots=True)
class States:
    """Bytes on the device of one rank, except `host`. See `states`.

    weights, optimizer (fp32 weights of its own included) and kept_gradients stay from step to step; on a GPU `buffers`,
    too. gathered: weights of other ranks that a forward or backward holds at once (stage 3).
    summed_gradients: those of the micro-batches so far, while the next one is computed.
    own_gradients: whether a micro-batch's gradients stay where its backward makes them until all are there.
    reduce_gradients, reduce_copies: held when the last gradients are summed over the ranks.
    update: held while the optimizer works: gradients in the optimizer's form, and its temporaries.
    host: of CPU memory, where a GPU trains.
    """

    weights: int
    optimizer: int
    kept_gradients: int
    buffers: int
    gathered: int
    summed_gradients: int
    own_gradients: bool
    reduce_gradients: int
    reduce_copies: int
    update: int
    host: int


def states(
    size: ModelSize,
    zero: ZeroSettings,
    numbers: Numbers,
    ranks: int,
    temporaries: float,
    *,
    on_gpu: bool,
    averages: bool = False,
) -> States:
    """What one of `ranks` ranks holds.

    temporaries: bytes per element that the optimizer allocates while it updates. on_gpu: a CPU does not give memory to
    the part of a bucket that is never written, and keeps offloaded states beside the others. averages: `training.ema`.
    """
    share, item = sum(size.shares(ranks)), numbers.weights.itemsize
    written = min(zero.reduce_bucket, size.total) * numbers.reduced.itemsize  # of a bucket, again and again
    bucket = zero.reduce_bucket * numbers.reduced.itemsize if on_gpu else written
    largest_update = int(max(size.shares(ranks)) * (_FP32 + temporaries))
    if zero.stage == 0:
        found = _stage_0(size, numbers, written, temporaries)
    elif zero.stage == 3:
        reduced = max(written, size.largest * numbers.reduced.itemsize) * (ranks + 1) // ranks
        frozen_share = -(-size.frozen // ranks)
        found = _stage_3(size, zero, numbers, (share, frozen_share), bucket, reduced, largest_update)
    else:
        buckets = bucket * (2 if zero.overlaps else 1) if on_gpu and zero.contiguous else 0
        norm = _FP64 * min(size.largest, max(size.shares(ranks)))  # get_grad_norm_direct computes in float64
        found = _stage_1_or_2(size, zero, numbers, share, buckets, written, max(largest_update, norm))
    if averages:  # a third state of the optimizer
        average = (size.total if zero.stage == 0 else share) * _FP32
        found = replace(found, optimizer=found.optimizer + average)
    if not (zero.optimizer_on_host and on_gpu):
        return found
    return _offloaded(found, size, zero, share, item)


def _stage_0(size: ModelSize, numbers: Numbers, written: int, temporaries: float) -> States:
    gradients = size.total * numbers.gradients.itemsize
    return States(
        weights=(size.total + size.frozen) * numbers.weights.itemsize,
        optimizer=size.total * _FP32 * _ADAM_MOMENTS,
        kept_gradients=0,
        buffers=0,
        gathered=0,
        summed_gradients=gradients,
        own_gradients=True,
        reduce_gradients=gradients,
        reduce_copies=written,  # DeepSpeed copies the gradients of a bucket into one tensor
        update=gradients + int(size.largest * temporaries),
        host=0,
    )


def _stage_1_or_2(
    size: ModelSize, zero: ZeroSettings, numbers: Numbers, share: int, buckets: int, written: int, largest_update: int
) -> States:
    whole, part = size.total * numbers.gradients.itemsize, share * numbers.gradients.itemsize
    if zero.stage == 2:
        summed, reduce_gradients = part, written + 2 * part  # the new part is added to the sum of those before
    elif numbers.has_master:  # DeepSpeed's BF16_Optimizer sums into fp32 beside the half-precision gradients
        summed = reduce_gradients = whole + size.total * numbers.weights.itemsize
    else:
        summed = reduce_gradients = whole
    return States(
        weights=(size.total + size.frozen) * numbers.weights.itemsize,
        optimizer=share * _FP32 * (1 + _ADAM_MOMENTS),
        kept_gradients=whole if zero.stage == 1 and numbers.has_master else 0,
        buffers=buckets,
        gathered=0,
        summed_gradients=summed,
        own_gradients=zero.stage == 1,
        reduce_gradients=reduce_gradients,
        reduce_copies=written,
        update=part + largest_update,
        host=0,
    )


def _stage_3(
    size: ModelSize,
    zero: ZeroSettings,
    numbers: Numbers,
    shares: tuple[int, int],
    bucket: int,
    reduced: int,
    largest_update: int,
) -> States:
    """shares: of the trained and of the frozen weights; both kinds are divided."""
    item, (share, frozen_share) = numbers.weights.itemsize, shares
    ahead = min(zero.prefetch_bucket, size.sharded)
    # What is fetched ahead arrives in one tensor and is then given to the parameters, so that it is there twice.
    gathered = min(size.sharded, size.largest_weight + ahead) * item * (2 if ahead else 1)
    return States(
        weights=(share + frozen_share + size.kept_whole) * item,
        optimizer=share * _FP32 * (1 + _ADAM_MOMENTS),
        kept_gradients=share * numbers.gradients.itemsize,
        buffers=bucket if zero.contiguous else 0,
        gathered=gathered,
        summed_gradients=0,
        own_gradients=False,
        reduce_gradients=0,
        reduce_copies=reduced,
        update=largest_update,
        host=0,
    )


def _offloaded(found: States, size: ModelSize, zero: ZeroSettings, share: int, item: int) -> States:
    """The same with the optimizer in CPU memory (or, as far as is known, on a disk), and the weights if asked."""
    host = found.optimizer + share * (_FP32 + item)  # its gradients, and the weights on their way back
    kept = 0 if zero.stage == 3 else found.kept_gradients
    host += found.kept_gradients - kept
    weights = found.weights
    if zero.weights_on_host and zero.stage == 3:
        weights, host = size.kept_whole * item, host + weights - size.kept_whole * item
    buffers = found.buffers + (size.largest * item if zero.stage < 3 else 0)
    return replace(found, weights=weights, optimizer=0, kept_gradients=kept, buffers=buffers, update=0, host=host)
