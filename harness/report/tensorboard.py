"""Writes metrics and scores for TensorBoard."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

from torch.utils.tensorboard.writer import SummaryWriter


class TensorBoardFiles:
    """A run's event files. In a continued run TensorBoard hides earlier events of the steps that are trained again."""

    def __init__(self, folder: Path, resumed_from: int) -> None:
        # purge_step is the first step that is hidden. A fresh run hides all steps, from step 0 (the starting model) on.
        self._writer = SummaryWriter(str(folder), purge_step=resumed_from + 1 if resumed_from else 0)

    def add(self, step: int, values: Mapping[str, float | None]) -> None:
        """Write a step's values, each under its own name; None and NaN, which mean unknown, are left out."""
        for name, value in values.items():
            if value is not None and not math.isnan(value):
                self._writer.add_scalar(name, value, step)

    def close(self) -> None:
        """Write what is still buffered."""
        self._writer.close()
