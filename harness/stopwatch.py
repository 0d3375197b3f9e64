"""Below floor 0: seconds spent in named places of a step, on the device that spends them."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager

import torch

_PENDING = 1_000  # spans kept before their events are read, which waits for the device


class Stopwatch:
    """Adds up seconds by name: `with watch("embed"): ...`, or as a decorator, then `watch.take()`.

    Elsewhere than on CUDA: wall time. On CUDA: from when the device reaches the first kernel queued inside to when it
    has done the last (events of the current stream), so that a place pays for the work it queues and for waiting for
    other ranks, not for the queueing.
    """

    def __init__(self) -> None:
        self._seconds: defaultdict[str, float] = defaultdict(float)
        self._spans: list[tuple[str, torch.cuda.Event, torch.cuda.Event]] = []

    @contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        """Count the time inside under `name`, also when it ends with an error."""
        if not torch.cuda.is_initialized():
            started = time.perf_counter()
            try:
                yield
            finally:
                self._seconds[name] += time.perf_counter() - started
            return
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        begin.record()
        try:
            yield
        finally:
            end.record()
            self._spans.append((name, begin, end))
            if len(self._spans) >= _PENDING:
                self._read_spans()

    def take(self) -> dict[str, float]:
        """Seconds by name since the last call, which are then forgotten. On CUDA it waits for the last place's end."""
        self._read_spans()
        taken, self._seconds = self._seconds, defaultdict(float)
        return dict(taken)

    def _read_spans(self) -> None:
        for name, begin, end in self._spans:
            end.synchronize()
            self._seconds[name] += begin.elapsed_time(end) / 1_000
        self._spans.clear()
