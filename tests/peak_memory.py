"""Counts the bytes that a block of code holds at once: those of Python and numpy, or those of its tensors."""

from __future__ import annotations

import gc
import tracemalloc
import weakref
from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

Result = TypeVar("Result")


def traced_peak(call: Callable[[], Result], tries: int = 3) -> tuple[Result, int]:
    """The last result, and the most bytes of Python and numpy held at once, in the try that needed the fewest.

    A call before them loads the modules. All threads are counted, so that one try may hold what another test left.
    """
    call()
    peaks = []
    for _ in range(tries):
        gc.collect()
        tracemalloc.start()
        result = call()
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    return result, min(peaks)


class PeakBytes(TorchDispatchMode):
    """`peak`: the most bytes held at once; `largest`: those of the largest tensor. Tensors made before do not count.

    Those of mapped files do not count either.
    """

    def __init__(self) -> None:
        super().__init__()
        self.held = self.peak = self.largest = 0
        self._seen: set[int] = set()

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        before = {leaf.untyped_storage()._cdata for leaf in tree_leaves((args, kwargs)) if torch.is_tensor(leaf)}
        result = function(*args, **(kwargs or {}))
        for tensor in (leaf for leaf in tree_leaves(result) if torch.is_tensor(leaf) and leaf.device.type != "meta"):
            storage = tensor.untyped_storage()
            if storage._cdata not in before and storage._cdata not in self._seen:
                self._count(storage)
        return result

    def _count(self, storage: torch.UntypedStorage) -> None:
        key, size = storage._cdata, storage.nbytes()
        self._seen.add(key)
        self.held += size
        self.peak, self.largest = max(self.peak, self.held), max(self.largest, size)
        weakref.finalize(storage, self._forget, key, size)

    def _forget(self, key: int, size: int) -> None:
        self._seen.discard(key)
        self.held -= size
