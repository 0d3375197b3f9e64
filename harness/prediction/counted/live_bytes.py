"""Counts the bytes that tensors hold while code runs, and the floating-point operations of its matrix products.

Made for `FakeTensorMode`, where tensors have shapes but no memory: the count is exact for any architecture, to the
byte of every tensor that PyTorch allocates. What a kernel allocates inside itself is not seen.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry, sdpa_backward_flop_count, sdpa_flop_count


class LiveBytes(TorchDispatchMode):
    """Inside this context, `now` and `peak` are the bytes of the tensors made in it; `flops` counts matrix products.

    A tensor made before, such as a weight, does not count. reset: the peak starts again from what is held now.
    """

    def __init__(self, made_before: Iterable[Tensor] = ()) -> None:
        super().__init__()
        self.now = self.peak = self.flops = 0
        self._seen: weakref.WeakSet[torch.UntypedStorage] = weakref.WeakSet()
        for tensor in made_before:
            self._seen.add(tensor.untyped_storage())

    def reset(self) -> None:
        self.peak = self.now

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        result = function(*args, **kwargs)
        packet = function._overloadpacket
        if packet in flop_registry:
            self.flops += flop_registry[packet](*args, **kwargs, out_val=result)
        elif "scaled_dot_product" in str(packet) and "for_cpu" in str(packet) and "backward" not in str(packet):
            self.flops += sdpa_flop_count(args[0].shape, args[1].shape, args[2].shape)
        elif "scaled_dot_product" in str(packet) and "for_cpu" in str(packet):
            self.flops += sdpa_backward_flop_count(*(args[index].shape for index in range(4)))
        for tensor in tree_leaves(result):
            if isinstance(tensor, Tensor) and not tensor.is_meta:
                self._count(tensor.untyped_storage())
        return result

    def _count(self, storage: torch.UntypedStorage) -> None:
        if storage not in self._seen:
            self._seen.add(storage)
            self.now += storage.nbytes()
            self.peak = max(self.peak, self.now)
            weakref.finalize(storage, self._forget, storage.nbytes())

    def _forget(self, num_bytes: int) -> None:
        self.now -= num_bytes


class FusedAsOnGpu(TorchFunctionMode):
    """Inside this context, dropout and attention keep for the backward what their GPU kernels keep.

    On a CPU, attention with dropout stores its matrix, and dropout a mask of floats. On a GPU, fused attention draws
    its dropout anew, and dropout keeps a byte per number.
    """

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        if function is torch.nn.functional.scaled_dot_product_attention:
            if len(args) > 4:
                args = (*args[:4], 0.0, *args[5:])
            else:
                kwargs["dropout_p"] = 0.0
        if function is torch.nn.functional.dropout:
            given = dict(zip(("input", "p", "training", "inplace"), args, strict=False)) | kwargs
            if given.get("training", True) and given.get("p", 0.5) > 0:
                return torch.native_dropout(given["input"], given.get("p", 0.5), True)[0]
            return given["input"]
        return function(*args, **kwargs)
