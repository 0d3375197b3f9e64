"""What a tracker does, and what all of them need: names of figures, the run's own id."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Literal, Protocol

from harness.files import replace_file

Outcome = Literal["finished", "stopped", "failed"]
FOLDER = "trackers"  # in the run folder: NAME.id, and what a tracker without a server writes


class Tracker(Protocol):
    """Built with (the run folder, the recipe as plain values, the step that the run continues from or 0)."""

    def add(self, step: int, values: Mapping[str, float | None]) -> None:
        """Record figures of a step by name; those that are not known are left out."""

    def close(self, outcome: Outcome) -> None:
        """Send what is left, and say how this start has ended: a stopped run will be continued."""


def known(values: Mapping[str, float | None]) -> dict[str, float]:
    """The values that are numbers; None, NaN and infinities mean unknown."""
    return {name: float(value) for name, value in values.items() if value is not None and math.isfinite(value)}


class RunId:
    """The id under which a tracker knows this run, in the run folder: a continued run goes on under it."""

    def __init__(self, folder: Path, tracker: str) -> None:
        self._file = folder / FOLDER / f"{tracker}.id"

    def read(self) -> str | None:
        """The id; None: there is none yet."""
        if not self._file.is_file():
            return None
        return self._file.read_text(encoding="utf-8", errors="replace").strip() or None

    def write(self, run_id: str) -> None:
        """Keep the id for the next start."""
        self._file.parent.mkdir(parents=True, exist_ok=True)
        replace_file(self._file, run_id + "\n")
