"""What this process waits for: which collective call it is in, since when, and how many calls it has made.

`hosts/watch.py` reads it in a thread of its own, to tell a rank that is missing from one that waits.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Wait:
    """A collective call that has not returned yet."""

    name: str
    started: float  # time.monotonic()

    @property
    def seconds(self) -> float:
        """How long it has lasted."""
        return time.monotonic() - self.started


class Waits:
    """Counts collective calls: `with waits("barrier"):`, or as a decorator. Every rank makes the same calls."""

    def __init__(self) -> None:
        self.num_calls = 0
        self.last: Wait | None = None  # the call that began last, whether or not it has returned
        self._open: dict[int, Wait] = {}  # thread → its outermost call
        self._num_long = 1  # phases that may take long and are not over: at first the start of the run

    @contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        """The time inside is one call. A call inside a call is part of it."""
        thread = threading.get_ident()
        if thread in self._open:
            yield
            return
        self.num_calls += 1
        self._open[thread] = self.last = Wait(name, time.monotonic())
        try:
            yield
        finally:
            del self._open[thread]

    def current(self) -> Wait | None:
        """The oldest call that has not returned; None if there is none."""
        return min(self._open.copy().values(), key=lambda wait: wait.started, default=None)

    @property
    def may_be_long(self) -> bool:
        """Whether ranks may wait for long now, because one of them reads, writes or encodes more than others."""
        return self._num_long > 0

    def starts_again(self) -> None:
        """Another run of this process begins, and its start may take long."""
        self._num_long = 1

    def start_is_over(self) -> None:
        """From here on, only what stands in `may_take_long` may."""
        self._num_long = 0

    @contextmanager
    def may_take_long(self) -> Iterator[None]:
        """A phase in which ranks work for different times: saving, scoring, re-ranking."""
        self._num_long += 1
        try:
            yield
        finally:
            self._num_long -= 1


waits = Waits()  # of this process
