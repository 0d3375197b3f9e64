"""Measures the seconds a process spends in named parts of its work, on the device that does the work."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager

import torch

_MOST_UNREAD_SPANS = 1_000  # reading a span waits for the device, so spans are read in groups of this many


class Stopwatch:
    """Adds up seconds by name: `with watch("embed"): ...`, or as a decorator, then `watch.take()`.

    Without CUDA it measures wall time. With CUDA it measures the time between two events on the current stream: from
    the moment the device reaches the first kernel queued inside to the moment it has finished the last. So the time of
    a name contains the device's work and its wait for other ranks, but not the host's time to queue the work.
    """

    def __init__(self) -> None:
        self._seconds: defaultdict[str, float] = defaultdict(float)
        self._spans: list[tuple[str, torch.cuda.Event, torch.cuda.Event]] = []

    @contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        """Add the time spent inside to `name`, also when it ends with an error."""
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
            if len(self._spans) >= _MOST_UNREAD_SPANS:
                self._read_spans()

    def take(self) -> dict[str, float]:
        """Return the seconds by name since the last call and start again from zero. On CUDA it waits for the device."""
        self._read_spans()
        seconds, self._seconds = self._seconds, defaultdict(float)
        return dict(seconds)

    def _read_spans(self) -> None:
        for name, begin, end in self._spans:
            end.synchronize()
            self._seconds[name] += begin.elapsed_time(end) / 1_000
        self._spans.clear()


stopwatch = Stopwatch()  # this process's stopwatch, for the phases of a step and all communication
