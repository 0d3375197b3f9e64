"""One fault that a user may meet, and what must happen: a row of `python -m tests.faults`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Seen:
    """What happened. message: the line a user reads. lost: what was lost, in words; "nothing" if so."""

    status: int
    message: str
    lost: str
    right: bool  # whether all of it is as it must be


@dataclass(frozen=True, slots=True)
class Fault:
    """name: in words, with the row's number in issue order (A1, A4, B2 ...). run: gets an empty folder."""

    row: str
    name: str
    run: Callable[[Path], Seen]
