"""Hands the run's figures to the experiment trackers of `report.trackers`. Rank 0 alone speaks to them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from harness import comm
from harness.report.messages import warn
from harness.report.trackers.table import open_tracker
from harness.report.trackers.tracker import Tracker
from harness.run.callbacks.callback import Callback
from harness.run.folder import RunFolder
from harness.run.run import Run


class Tracking(Callback):
    """A tracker that fails while the run goes on is warned of once and left out from then on: training goes on.

    trained_steps: of the checkpoint that the run continues from; 0: a fresh run.
    """

    def __init__(self, folder: RunFolder, trained_steps: int) -> None:
        self._folder, self._trained_steps = folder, trained_steps
        self._trackers: dict[str, Tracker] = {}

    def on_start(self, run: Run) -> None:
        """Open every tracker. One whose service cannot be reached is warned of, not refused."""
        settings = run.config.model_dump(mode="json")
        for name in run.config.report.trackers if comm.is_main() else ():
            self._try(name, partial(self._open, name, settings))

    def on_step(self, step: int, metrics: Mapping[str, float]) -> None:
        """Hand a step's metrics on."""
        self._each(lambda tracker: tracker.add(step, metrics))

    def on_evaluation(self, step: int, results: Mapping[str, Mapping[str, float]]) -> None:
        """Hand the scores on, as evaluation/DATA SET/METRIC."""
        scores = {f"evaluation/{name}/{key}": value for name, m in results.items() for key, value in m.items()}
        self._each(lambda tracker: tracker.add(step, scores))

    def on_end(self, run: Run) -> None:
        """Close every tracker, which sends what it still holds."""
        self._each(lambda tracker: tracker.close(run.outcome))

    def _open(self, name: str, settings: dict[str, Any]) -> None:
        self._trackers[name] = open_tracker(name, self._folder.path, settings, self._trained_steps)

    def _each(self, tell: Callable[[Tracker], None]) -> None:
        for name, tracker in list(self._trackers.items()):
            self._try(name, partial(tell, tracker))

    def _try(self, name: str, work: Callable[[], None]) -> None:
        try:
            work()
        except Exception as error:  # whatever a service's client raises: the run is worth more than its curves there
            self._trackers.pop(name, None)
            reason = " ".join(str(error).split())[:200] or type(error).__name__
            warn(f"report.trackers: {name} failed ({reason}) and gets nothing more of this start; training goes on")
