"""A row of the growth table: one operation at one size, what it cost, and what it may cost."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Row:
    """seconds: wall time; cpu_seconds: of this process and its children; None: not measured. met: None: no goal."""

    what: str
    size: str
    seconds: float | None
    cpu_seconds: float | None
    peak_bytes: int | None
    goal: str
    met: bool | None
