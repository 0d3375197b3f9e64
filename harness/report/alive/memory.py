"""Warns once if the memory of this process keeps growing over many steps, beyond what the first steps needed."""

from __future__ import annotations

import os
from pathlib import Path

import psutil

_FIRST_WINDOWS, _NUM_WINDOWS = 2, 16
_STEPS_OF_A_WINDOW = 50  # at first; windows grow with the run
_LEAST_WINDOWS = 12  # before anything is said
_FALLING_SHARE, _RISING_SHARE = 0.1, 0.3  # of the growth, that a window may need less, or more, than the one before
_LEAST_GROWTH_BYTES, _LEAST_GROWTH_SHARE = 64 << 20, 0.03
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


class MemoryGrowth:
    """Watches the memory of a process, step by step.

    Steps are taken together in windows, of which the least memory counts: a long text or an evaluation raises the most.
    A memory that was filled once stays as it is. A leak makes window after window need more.
    """

    def __init__(self, name: str) -> None:
        """name: what the warning calls this process, such as `rank 1 (host b)`."""
        self._name = name
        self._width = _STEPS_OF_A_WINDOW
        self._least: list[int] = []  # bytes, of each whole window
        self._first_most: int | None = None
        self._most_so_far = self._current = self._count = self._steps = 0
        self._has_warned = False

    def message(self, num_bytes: int) -> str | None:
        """What to warn of after a step after which the process holds `num_bytes`; None if nothing, or warned before."""
        self._steps += 1
        self._most_so_far = max(self._most_so_far, num_bytes)
        self._current = num_bytes if self._count == 0 else min(self._current, num_bytes)
        self._count += 1
        if self._count < self._width or self._has_warned:
            return None
        self._least.append(self._current)
        self._count = 0
        if self._first_most is None and len(self._least) == _FIRST_WINDOWS:
            self._first_most = self._most_so_far
        if len(self._least) == _NUM_WINDOWS and not self._is_growing():
            self._width *= 2
            self._least = [min(pair) for pair in zip(self._least[::2], self._least[1::2], strict=True)]
            return None
        return self._warning() if self._is_growing() else None

    def _is_growing(self) -> bool:
        if self._first_most is None or len(self._least) < _LEAST_WINDOWS:
            return False
        first, middle, last = self._least[0], self._least[len(self._least) // 2], self._least[-1]
        if last <= self._first_most + max(_LEAST_GROWTH_BYTES, _LEAST_GROWTH_SHARE * self._first_most):
            return False
        rises = [later - earlier for earlier, later in zip(self._least, self._least[1:], strict=False)]
        is_steady = min(rises) >= -_FALLING_SHARE * (last - first) and max(rises) <= _RISING_SHARE * (last - first)
        return is_steady and last - middle >= (middle - first) / 2  # else it comes to rest

    def _warning(self) -> str:
        assert self._first_most is not None
        self._has_warned = True
        grown = self._least[-1] - self._least[0]
        per_step = grown / (self._width * (len(self._least) - 1))
        steps_left = psutil.virtual_memory().available / per_step
        return (
            f"{self._name}: memory keeps growing, from at most {self._first_most / 1e9:.2f} GB in its first "
            f"{_FIRST_WINDOWS * _STEPS_OF_A_WINDOW} steps to {self._least[-1] / 1e9:.2f} GB after {self._steps:,}, "
            f"about {per_step / 1e3:,.0f} kB a step: the machine's is full in about {steps_left:,.0f} steps; set "
            "checkpoint.every so that little is lost, and report this"
        )


def own_bytes() -> int:
    """Bytes of memory that only this process holds.

    Pages of mapped files (data, banks) are left out where the system tells them apart: they fill up as rows are read,
    and the system takes them back when it needs room.
    """
    try:
        fields = Path("/proc/self/statm").read_bytes().split()
    except OSError:
        return psutil.Process().memory_info().rss
    return (int(fields[1]) - int(fields[2])) * _PAGE_BYTES
