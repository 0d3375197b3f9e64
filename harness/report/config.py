"""The recipe's `report` section."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from harness.settings.section import Section

TrackerName = Literal["tensorboard", "wandb", "mlflow"]


class ReportConfig(Section):
    """Where a run's figures go besides its own files. trackers: all of them; an empty list: nowhere else."""

    trackers: tuple[TrackerName, ...] = Field(("tensorboard",))
