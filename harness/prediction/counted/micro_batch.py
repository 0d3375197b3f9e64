"""What one micro-batch costs: memory of its forward and backward, and operations; counted without any real memory.

The forward and the backward of the recipe's own model run on tensors that have shapes only (`FakeTensorMode`), so that
layers which share weights, experts, heads and attention of every kind are counted as they are.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode

from harness.encoder.config import ModelConfig
from harness.encoder.dropout import cheap_dropout_again
from harness.encoder.encoder import Encoder
from harness.encoder.unloaded import unloaded_encoder
from harness.model_folder.find import in_one_line
from harness.prediction.counted.live_bytes import FusedAsOnGpu, LiveBytes
from harness.prediction.precision import Numbers

SHORT_AND_LONG = _SHORT, _LONG = 16, 64  # tokens


@dataclass(frozen=True, slots=True)
class MicroBatchCost:
    """Bytes and operations of one micro-batch. Weights do not count.

    embed: the most that the forward without a graph holds at once.
    graph: what the forward with a graph leaves for its backward, the embeddings included.
    forward: the most that the forward with a graph holds at once.
    backward: the most that the backward holds at once, with the graph and without the finished gradients of parameters.
    with_gradients: the same with the gradients of the parameters that this backward has finished.
    forward_flops, backward_flops: floating-point operations of one pass, matrix products only. With gradient
        checkpointing the backward has those of the forward, too.
    """

    embed: int
    graph: int
    forward: int
    backward: int
    with_gradients: int
    forward_flops: int
    backward_flops: int


class CannotCountError(ValueError):
    """A model's forward depends on numbers, not only on shapes."""


class UnloadedModel:
    """The recipe's model without weights. Its sizes, and the cost of its micro-batches.

    on_gpu: whether dropout and attention are those of a GPU.
    """

    def __init__(self, config: ModelConfig, dropout: float | None, numbers: Numbers, *, on_gpu: bool) -> None:
        self._mode = FakeTensorMode(allow_non_fake_inputs=True)
        self._numbers, self._on_gpu, self._name = numbers, on_gpu, config.name_or_path
        with self._mode:
            self.encoder: Encoder = unloaded_encoder(
                config, dropout, numbers.weights, _fused_again if on_gpu else cheap_dropout_again
            )
            self.encoder.train()
        self.encoder.has_cheap_dropout = not on_gpu
        self._flops_by_token: tuple[float, float] | None = None
        self._costs: dict[tuple[int, int], MicroBatchCost] = {}

    @property
    def parameters(self) -> list[nn.Parameter]:
        """All trained parameters, each once, in the order of the module."""
        return [parameter for parameter in self.encoder.parameters() if parameter.requires_grad]

    @property
    def recomputes(self) -> bool:
        """Whether the backward computes the forward again (gradient checkpointing)."""
        return any(getattr(module, "gradient_checkpointing", False) for module in self.encoder.modules())

    @property
    def forwards_of_a_backward(self) -> float:
        """Operations of a backward in those of a forward, without what checkpointing computes again.

        It is 2 where all weights are trained: by the states, and by the weights. Frozen weights need only the former.
        """
        if all(parameter.requires_grad for parameter in self.encoder.parameters()):
            return 2.0
        cost = self.cost(1, _LONG)
        return max(0.0, cost.backward_flops / cost.forward_flops - self.recomputes)

    def forward_flops(self, shape: tuple[int, int]) -> int:
        """Operations of one forward: a · tokens + b · tokens · length, with a and b from two counted lengths."""
        if self._flops_by_token is None:
            short, long = (self.cost(1, length).forward_flops / length for length in (_SHORT, _LONG))
            by_pair = (long - short) / (_LONG - _SHORT)
            self._flops_by_token = short - _SHORT * by_pair, by_pair
        by_token, by_pair = self._flops_by_token
        num_texts, length = shape
        return int(num_texts * length * (by_token + length * by_pair))

    def cost(self, num_texts: int, length: int) -> MicroBatchCost:
        """The cost of a micro-batch of `num_texts` texts, padded to `length` tokens each.

        Raises:
            CannotCountError: the model does not run on tensors that have shapes only.
        """
        shape = max(1, num_texts), max(1, length)
        if shape not in self._costs:
            try:
                with self._mode:
                    self._costs[shape] = self._count(*shape)
            except Exception as error:  # the code of a model may do anything
                raise CannotCountError(
                    f"{self._name}: got a model that does not run on tensors without numbers ({in_one_line(error)}), "
                    "so its activations and operations are not known; train a few steps and read memory_bytes"
                ) from error
        return self._costs[shape]

    def _count(self, num_texts: int, length: int) -> MicroBatchCost:
        tensors = [*self.encoder.parameters(), *self.encoder.buffers()]
        with LiveBytes(tensors) as live, torch.no_grad():
            self._forward(num_texts, length)
        embed, flops = live.peak, live.flops
        with LiveBytes(tensors) as live:
            embedding_BD = self._forward(num_texts, length)
            forward, graph, before = live.peak, live.now, live.flops
            live.reset()
            finished = _FinishedGradients(self.parameters, live)
            with finished:
                embedding_BD.float().sum().backward()
        for parameter in self.parameters:
            parameter.grad = None
        finished.measure()
        backward_flops = live.flops - before
        return MicroBatchCost(embed, graph, forward, finished.most_without, finished.most, flops, backward_flops)

    def _forward(self, num_texts: int, length: int) -> Tensor:
        with self._context():
            ids_BL = torch.ones((num_texts, length), dtype=torch.int64)
            return self.encoder(ids_BL, torch.ones_like(ids_BL))

    @contextmanager
    def _context(self) -> Iterator[None]:
        autocast = self._numbers.autocast
        with (
            FusedAsOnGpu() if self._on_gpu else nullcontext(),
            nullcontext() if autocast is None else torch.autocast("cpu", dtype=autocast),
        ):
            yield


def _fused_again() -> tuple[AbstractContextManager[object], AbstractContextManager[object]]:
    """For gradient checkpointing, which repeats a layer's forward outside of the context of the first one."""
    return nullcontext(), FusedAsOnGpu()


class _FinishedGradients:
    """While a backward runs: the most bytes held at once, with and without the finished gradients of parameters."""

    def __init__(self, parameters: list[nn.Parameter], live: LiveBytes) -> None:
        self._parameters, self._live = parameters, live
        self._finished, self.most, self.most_without = 0, live.now, live.now

    def __enter__(self) -> None:
        self._handles = [parameter.register_post_accumulate_grad_hook(self._finish) for parameter in self._parameters]

    def __exit__(self, *_: object) -> None:
        for handle in self._handles:
            handle.remove()

    def measure(self) -> None:
        """Take note of the peak since the last call."""
        self.most = max(self.most, self._live.peak)
        self.most_without = max(self.most_without, self._live.peak - self._finished)
        self._live.reset()

    def _finish(self, parameter: Tensor) -> None:
        self.measure()
        assert parameter.grad is not None
        self._finished += parameter.grad.untyped_storage().nbytes()
