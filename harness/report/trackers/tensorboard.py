"""Writes metrics and scores for TensorBoard."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch.utils.tensorboard.writer import SummaryWriter

from harness.report.trackers.tracker import Outcome, known

TENSORBOARD = "tensorboard"


class TensorBoardFiles:
    """A run's event files. In a continued run TensorBoard hides earlier events of the steps that are trained again."""

    def __init__(self, folder: Path, settings: dict[str, Any], resumed_from: int) -> None:
        # purge_step is the first step that is hidden. A fresh run hides all steps, from step 0 (the starting model) on.
        self._writer = SummaryWriter(str(folder / TENSORBOARD), purge_step=resumed_from + 1 if resumed_from else 0)

    def add(self, step: int, values: Mapping[str, float | None]) -> None:
        """Write a step's values, each under its own name; those that are not known are left out."""
        for name, value in known(values).items():
            self._writer.add_scalar(name, value, step)

    def close(self, outcome: Outcome) -> None:
        """Write what is still buffered."""
        self._writer.close()
