"""How much a loss changes from step to step, and plots of the losses (as figure 4 of the paper)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from harness.report.figures.curve import Curve
from harness.report.figures.drawing import Line, Panel, Picture, line_picture
from harness.report.history import RunHistory

STEP_LOSS = "loss"


@dataclass(frozen=True, slots=True)
class Swing:
    """How much a loss changes between two consecutive steps that have this loss.

    variance: of the change. texts: number of texts encoded between two such steps.
    """

    variance: float
    texts: float  # mean over the steps; texts of all tasks, each unique text of a step counted once

    @property
    def per_thousand_texts(self) -> float:
        """The variance after 1,000 texts, if the changes were independent."""
        return 1000 * self.variance / self.texts


def swing(run: RunHistory, column: str) -> Swing | None:
    """The swing of a column of metrics.jsonl; None if fewer than three steps have a value in it."""
    loss_P, seen_P = _recorded(run, column)
    if len(loss_P) < 3:
        return None
    return Swing(float(np.var(np.diff(loss_P), ddof=1)), float(np.mean(np.diff(seen_P))))


def loss_columns(runs: Sequence[RunHistory]) -> list[str]:
    """Columns: the loss that the optimizer minimises, then the loss of each task."""
    return [STEP_LOSS, *dict.fromkeys(key for run in runs for key in run.columns if key.startswith("loss/"))]


def task_losses(runs_of_arm: Mapping[str, Sequence[RunHistory]]) -> Picture:
    """Plot each task's loss against the number of texts seen: one line per arm, the mean over its runs."""
    all_runs = [run for runs in runs_of_arm.values() for run in runs]
    panels = []
    for column in loss_columns(all_runs)[1:]:
        lines = [Line(arm, _over_texts(runs, column), i) for i, (arm, runs) in enumerate(runs_of_arm.items()) if runs]
        panels.append(Panel(f"task {column.removeprefix('loss/')}", lines, x_label="texts seen"))
    caption = (
        "Each task's own loss, unweighted, on the steps that hold it, over the texts seen by then, of all tasks; means "
        "over the seeds. The tasks of all arms see the same examples in the same order."
    )
    return line_picture("task_losses", "Each task's loss over the texts seen", caption, panels)


def step_losses(runs_of_arm: Mapping[str, Sequence[RunHistory]]) -> Picture:
    """Plot the loss that the optimizer minimises, for the first run of each arm."""
    panels = []
    for arm, runs in runs_of_arm.items():
        if runs:
            line = Line("the step's loss", _over_texts(runs[:1], STEP_LOSS), 0)
            panels.append(Panel(arm, [line], x_label="texts seen"))
    caption = (
        "The step's loss: of one task where tasks alternate, of all tasks together in cbb and both (InfoNCE + β · "
        "CoSENT). One run of each arm; the heights cannot be compared between the two."
    )
    return line_picture("step_losses", "The loss that the optimizer follows", caption, panels)


def _over_texts(runs: Sequence[RunHistory], column: str) -> Curve:
    """The curve of a loss: point i is the mean over the runs of (texts seen, loss) at the i-th step that has the loss.

    The curve has no band.
    """
    recorded = [_recorded(run, column) for run in runs]
    count = min(len(loss_P) for loss_P, _ in recorded)
    loss_P, seen_P = (np.mean([pair[i][:count] for pair in recorded], axis=0) for i in (0, 1))
    no_band_P = np.full(count, np.nan)
    return Curve(seen_P, loss_P, no_band_P, no_band_P)


def _recorded(run: RunHistory, column: str) -> tuple[np.ndarray, np.ndarray]:
    """Return (loss, texts seen so far) of the steps that have the loss."""
    loss_P = run.column(column)
    has_P = np.isfinite(loss_P)
    return loss_P[has_P], np.cumsum(run.column("num_texts"))[has_P]
