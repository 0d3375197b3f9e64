"""Decides which micro-batches keep the graph of the embed phase, so that the replay phase needs no second forward.

In: the recipe's `training.activation_memory`, the schedule of a step, the bytes of graphs that were measured while the
run's first step was replayed. Out: a number K; the first K micro-batches of every rank keep their graphs.

Kept or replayed, a micro-batch has the same graph, and the order of the backwards never changes. So gradients are the
same bits for every K, and free memory may decide how many graphs are kept without changing what is learned. The first
ones are kept because they are backpropagated first: memory has fallen again when the first replay needs it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from scipy.optimize import nnls
from torch import Tensor, nn
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode

from harness import comm
from harness.data.batch.micro_batches import padded_length
from harness.engine.budget import free_bytes
from harness.engine.step import Step
from harness.engine.zero import ZeroEngine
from harness.types import Schedule, TokenBatch

MEBIBYTE = 1 << 20
# Tensors of many sizes leave gaps between them, which no counting of tensors sees.
_GAPS = 1.05
_MOST_MEASURED = 8  # micro-batches of a step


@dataclass(frozen=True, slots=True)
class MeasuredGraph:
    """What the graph of one micro-batch held: bytes; tokens with padding; width: tokens of each padded text."""

    tokens: int
    width: int
    num_bytes: int


@dataclass(frozen=True, slots=True)
class GraphBytes:
    """Bytes of a graph = per_micro_batch + padded tokens · (per_token + per_token_and_width · width).

    per_micro_batch: copies of weights in half precision. per_token_and_width: attention that stores its matrix.
    """

    per_micro_batch: float
    per_token: float
    per_token_and_width: float
    widest: int  # tokens; what a graph of wider texts takes is not known

    @classmethod
    def fit(cls, measured: Sequence[MeasuredGraph]) -> GraphBytes:
        """The non-negative least squares fit, raised until it covers every graph that was measured.

        Where all widths or all micro-batches are alike, what cannot be told apart counts as `per_token`.
        """
        size = np.array([[1.0, graph.tokens, graph.tokens * graph.width] for graph in measured])
        num_bytes = np.array([float(graph.num_bytes) for graph in measured])
        told_apart = np.array([len(set(size[:, 1])) > 1, True, len({graph.width for graph in measured}) > 1])
        if np.linalg.matrix_rank(size / size.max(axis=0)) < told_apart.sum():
            told_apart = np.array([False, True, False])
        scale = size.max(axis=0) * told_apart
        coefficients = nnls(size / size.max(axis=0) * told_apart, num_bytes)[0]
        coefficients = np.divide(coefficients, scale, out=np.zeros(3), where=told_apart)
        too_low = max(1.0, float((num_bytes / np.maximum(size @ coefficients, 1.0)).max()))
        per_micro_batch, per_token, per_token_and_width = (coefficients * too_low).tolist()
        widest = max(graph.width for graph in measured)
        return cls(per_micro_batch, per_token, per_token_and_width, widest)

    def of(self, tokens: int, width: int) -> float:
        """The bytes of the graph of a micro-batch."""
        return self.per_micro_batch + tokens * (self.per_token + self.per_token_and_width * width)


def graphs_kept(schedule: Schedule, length_T: np.ndarray, graph_bytes: GraphBytes, budget_bytes: float) -> int:
    """How many micro-batches of every rank, counted from the first, keep their graphs within a budget.

    It is one number for all ranks, because under ZeRO-3 every forward and every backward is a collective. The ranks'
    tokens are nearly equal (`data/batch/deal.py`), so hardly any memory is left unused by that.
    """
    count = schedule.num_micro_batches
    rounds = ([_padded(of_rank[index], length_T) for of_rank in schedule.micro_batches] for index in range(count))
    return graphs_that_fit(rounds, graph_bytes, budget_bytes)


def graphs_that_fit(rounds: Iterable[Sequence[tuple[int, int]]], graph_bytes: GraphBytes, budget_bytes: float) -> int:
    """The same for sizes. rounds: of the first micro-batch of every rank, of the second, and so on, (tokens, width)."""
    held_W, kept = np.zeros(1), 0
    for sizes in rounds:
        held_W = held_W + np.array([graph_bytes.of(*size) for size in sizes]) * _GAPS
        if held_W.max() > budget_bytes:
            break
        kept += 1
    return kept


class GraphMeter:
    """Counts the bytes that the graphs of some micro-batches hold."""

    def __init__(self, module: nn.Module, indices: Iterable[int]) -> None:
        """indices: of the micro-batches to measure."""
        self._module, self._indices = module, frozenset(indices)
        self.measured: list[MeasuredGraph] = []

    @contextmanager
    def watch(self, index: int, batch: TokenBatch) -> Iterator[None]:
        """Measure the graph that a forward of micro-batch `index` makes inside this context, if it is to be measured.

        On a GPU the graph is what the allocator holds afterwards and did not hold before. On a CPU it is the tensors
        saved for the backward. Gradient checkpointing saves none but keeps the inputs of every layer; there, the
        tensors count that were made inside and are still alive.
        """
        if index not in self._indices:
            yield
            return
        if comm.device().type == "cuda":
            before = torch.cuda.memory_allocated()
            yield
            num_bytes = torch.cuda.memory_allocated() - before
        else:
            storages = _Storages()
            checkpointing = any(getattr(module, "gradient_checkpointing", False) for module in self._module.modules())
            with _Made(storages) if checkpointing else torch.autograd.graph.saved_tensors_hooks(storages.add, _same):
                yield
            num_bytes = storages.held_bytes(besides=self._module)
        tokens, width = batch.num_tokens, batch.input_ids_BL.shape[1]
        self.measured.append(MeasuredGraph(tokens, width, max(0, num_bytes)))


@dataclass
class GraphChoice:
    """Chooses how many graphs each step of a run keeps. `say` gets the one line that tells what was chosen."""

    setting: int | str  # training.activation_memory: MiB of a rank, or auto
    engine: ZeroEngine
    say: Callable[[str], None]
    graph_bytes: GraphBytes | None = None
    budget_bytes: float | None = None
    _embeds_with_graph: bool | None = None
    _meter: GraphMeter | None = None  # of the step before, if graphs were measured in it
    _measured: list[MeasuredGraph] = field(default_factory=list)

    def choose(self, step: Step) -> Step:
        """The step with the number of graphs it keeps. Every rank must call it with the same step.

        The first step keeps none: while it is replayed, its graphs are measured. So does a later step with longer
        texts than all before it. After the first step the memory of gradients and optimizer state is taken, so that
        `auto` sees what is left.
        """
        if self._embeds_with_graph is None:
            self._embeds_with_graph = changes_bits_without_graph(self.engine)
        step = replace(step, embeds_with_graph=self._embeds_with_graph)
        if self.setting == 0:
            return step
        if self._meter is not None:
            self._fit(self._meter.measured)
        if self.graph_bytes is None or _widest(step) > self.graph_bytes.widest:
            count = step.schedule.num_micro_batches
            indices = np.linspace(0, count - 1, min(count, _MOST_MEASURED)).astype(int)
            self._meter = GraphMeter(self.engine.module, indices.tolist())
            return replace(step, meter=self._meter)
        reason = None
        if self.budget_bytes is None:
            self.budget_bytes, reason = _budget(self.setting)
        kept = graphs_kept(step.schedule, step.plan.texts.length_T, self.graph_bytes, self.budget_bytes)
        if reason is not None:  # the first step that may keep graphs
            self.say(_line(self.budget_bytes, reason, kept, step, self.graph_bytes))
        return replace(step, graphs_kept=kept)

    def _fit(self, measured: Sequence[MeasuredGraph]) -> None:
        """Fit the bytes of graphs, from what all ranks have measured, so that all of them choose alike.

        All take rank 0's fit: on hosts of several kinds the last bits of a fit may differ, and under ZeRO-3 ranks that
        keep different numbers of graphs wait for each other for ever.
        """
        self._measured += [graph for of_rank in comm.gather_objects(list(measured)) for graph in of_rank]
        self.graph_bytes, self._meter = comm.broadcast_object(GraphBytes.fit(self._measured)), None


def changes_bits_without_graph(engine: ZeroEngine) -> bool:
    """Whether the model's embeddings are other bits without a graph than with one. Every rank must call it.

    T5 learns the bias that it adds to attention. torch has another kernel where that bias needs no gradient. In half
    precision the two mostly round to the same bits, and always may for a few tokens, so the kernels are compared, too.
    The answer is the same at every start, because the tokens are. Compiled code is another with a graph than without;
    it is made here first, because the sizes that it first sees decide how.
    """
    tokens = torch.arange(32).reshape(2, 16) % 3
    batch = TokenBatch(tokens, torch.ones_like(tokens).index_fill_(1, torch.tensor([15]), 0))
    engine.train_mode(True)
    if getattr(engine.module, "is_compiled", False):
        engine.forward(batch)
        return True
    embeddings, kernels = [], []
    for with_graph in (False, True):
        torch.manual_seed(0)
        with torch.set_grad_enabled(with_graph), _AttentionKernels() as taken:
            embeddings.append(engine.forward(batch).detach())
        kernels.append(taken.names)
    differ = not torch.equal(*embeddings) or kernels[0] != kernels[1]
    return bool(comm.all_reduce_max(torch.tensor([differ], dtype=torch.int32, device=comm.device())))


def _budget(setting: int | str) -> tuple[float, str]:
    """Bytes for the graphs of a rank, and what they are taken from, in words. The same on every rank."""
    if setting != "auto":
        return int(setting) * MEBIBYTE, "training.activation_memory"
    free, share = free_bytes()
    return free * share, f"{share:.0%} of the {free / MEBIBYTE:,.0f} MiB that a step leaves free"


def _line(budget_bytes: float, reason: str, kept: int, step: Step, graph_bytes: GraphBytes) -> str:
    """What was chosen, in words."""
    count = step.schedule.num_micro_batches
    mebibytes = f"{budget_bytes / MEBIBYTE:,.0f} MiB a rank ({reason})"
    if kept:
        several = "its one micro-batch" if count == 1 else f"about {kept} of {count} micro-batches"
        return f"activation memory: keeps the graphs of up to {mebibytes} = {several}"
    tokens, width = _padded(step.schedule.micro_batches[comm.rank()][0], step.plan.texts.length_T)
    needed = graph_bytes.of(tokens, width) * _GAPS / MEBIBYTE
    return (
        f"activation memory: {mebibytes} is too little for one graph, which takes {needed:,.0f} MiB: every "
        "micro-batch is encoded twice; raise training.activation_memory, or lower training.micro_batch_tokens"
    )


def _widest(step: Step) -> int:
    return int(padded_length(step.plan.texts.length_T.max(initial=1)))


def _padded(text_M: np.ndarray, length_T: np.ndarray) -> tuple[int, int]:
    """(padded tokens, width) of a micro-batch; one without texts holds one padding token."""
    if not len(text_M):
        return 1, 1
    width = int(padded_length(length_T[text_M].max()))
    return len(text_M) * width, width


class _Storages:
    """Counts the bytes of memory blocks that are alive, each once, however many tensors share it."""

    def __init__(self) -> None:
        self._seen: dict[int, tuple[StorageWeakRef, int]] = {}

    def add(self, tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        weak = StorageWeakRef(storage)  # holds the block's name but not its memory, so that no name is used twice
        self._seen[weak.cdata] = weak, storage.nbytes()
        return tensor

    def held_bytes(self, besides: nn.Module) -> int:
        """Bytes of the blocks that still exist and are no weights of a module."""
        own = {tensor.untyped_storage()._cdata for tensor in (*besides.parameters(), *besides.buffers())}
        return sum(size for name, (weak, size) in self._seen.items() if name not in own and not weak.expired())


class _Made(TorchDispatchMode):
    """Adds every tensor that is computed inside."""

    def __init__(self, storages: _Storages) -> None:
        super().__init__()
        self._storages = storages

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        result = func(*args, **(kwargs or {}))
        for value in result if isinstance(result, (tuple, list)) else (result,):
            if isinstance(value, Tensor):
                self._storages.add(value)
        return result


class _AttentionKernels(TorchDispatchMode):
    """`names`: the kernels of fused attention that are called inside."""

    def __init__(self) -> None:
        super().__init__()
        self.names: set[str] = set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        if "attention" in str(func):
            self.names.add(str(func))
        return func(*args, **(kwargs or {}))


def _same(tensor: Tensor) -> Tensor:
    return tensor
