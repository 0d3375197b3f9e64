"""Sends a run to Weights & Biases, or with WANDB_MODE=offline into the run folder, for `wandb sync` later."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import wandb

from harness.report.trackers.tracker import FOLDER, Outcome, RunId, known

_EXIT_STATUS = {"finished": 0, "stopped": 0, "failed": 1}


class WandbRun:
    """One run. Figures stand over the metric `step`, so a continued run may send steps again that it trains again.

    Project, entity and mode are wandb's own environment variables (WANDB_PROJECT, WANDB_ENTITY, WANDB_MODE); without
    WANDB_PROJECT the project is `embeddings`.
    """

    def __init__(self, folder: Path, settings: dict[str, Any], resumed_from: int) -> None:
        (folder / FOLDER).mkdir(parents=True, exist_ok=True)
        run_id = RunId(folder, "wandb")
        earlier = run_id.read() if resumed_from else None
        self._run = wandb.init(
            project=os.environ.get("WANDB_PROJECT", "embeddings"),
            name=settings["name"],
            id=earlier,
            resume="allow" if earlier else None,
            config=settings,
            dir=str(folder / FOLDER),
        )
        run_id.write(self._run.id)
        self._run.define_metric("step")
        self._run.define_metric("*", step_metric="step")

    def add(self, step: int, values: Mapping[str, float | None]) -> None:
        """Send the figures of a step."""
        self._run.log({**known(values), "step": step})

    def close(self, outcome: Outcome) -> None:
        """Wait until everything is sent."""
        self._run.finish(exit_code=_EXIT_STATUS[outcome])
