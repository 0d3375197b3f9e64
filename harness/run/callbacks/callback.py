"""The hooks of a run. Subclass `Callback`, override what is needed, and hand an instance to `train`.

    class Patience(Callback):
        def on_step(self, step, metrics):
            if metrics["loss"] < 0.01:
                return STOP

Every rank calls its own instances at the same moments, so a callback may use collectives; who prints or writes asks
`harness.comm.is_main()` first. An error in a callback ends the run as any other error does.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from harness.run.run import Run

STOP: Final = "stop"  # what on_step, on_evaluation or on_checkpoint return to end the run


class Callback:
    """Does nothing at any moment of a run.

    `on_step`, `on_evaluation` and `on_checkpoint` may return STOP, or call `run.request_stop(reason)`, on any rank: all
    ranks then end the run together after this step (at the latest the next one), as if it had been the last: it is
    evaluated, saved, exported and finished; run.json says why.
    """

    def on_start(self, run: Run) -> None:
        """Called once, before the first step of this start and before the starting model is scored."""

    def on_step(self, step: int, metrics: Mapping[str, float]) -> str | None:
        """Called after the update of a step, counted from 1. metrics: its row of metrics.jsonl, NaN where unknown."""

    def on_evaluation(self, step: int, results: Mapping[str, Mapping[str, float]]) -> str | None:
        """Called when the model after `step` steps (0: the starting model) is scored: data set → metric → value."""

    def on_checkpoint(self, step: int, folder: Path) -> str | None:
        """Called when the checkpoint of a step is whole, in `folder`, and named by `checkpoints/latest`."""

    def on_end(self, run: Run) -> None:
        """Called once, however the run ends; `run.outcome`: finished, stopped (by a signal; to be continued) or failed.

        A finished run has its model/ by then.
        """
