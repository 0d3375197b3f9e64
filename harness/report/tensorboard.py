"""Floor 4: the same figures for TensorBoard."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from torch.utils.tensorboard.writer import SummaryWriter


class TensorBoardFiles:
    """Event files of a run. A continued run hides the events after the step it continues from."""

    def __init__(self, folder: Path, resumed_from: int) -> None:
        # purge_step is the first step to hide; an evaluation of the starting model stands at step 0.
        self._writer = SummaryWriter(str(folder), purge_step=resumed_from + 1 if resumed_from else 0)

    def add(self, step: int, values: Mapping[str, float | None]) -> None:
        """Write a step's figures, each under its own name; None is left out."""
        for name, value in values.items():
            if value is not None:
                self._writer.add_scalar(name, value, step)

    def close(self) -> None:
        """Write what is still held back."""
        self._writer.close()
