"""All that a run tells what happens: its report, then its callbacks, in the order that they were given in."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from harness.process.stop_request import StopAskedError
from harness.report.report import Report
from harness.run.callbacks.callback import STOP, Callback
from harness.run.run import Run


class Observers:
    """Hands every event on. Every rank must call it at the same moments."""

    def __init__(self, run: Run, report: Report, callbacks: Sequence[Callback]) -> None:
        self.report = report
        self._run, self._callbacks = run, callbacks

    @contextmanager
    def during_run(self) -> Iterator[Observers]:
        """Call `on_start` now and `on_end` of the callbacks that have started when the context is left."""
        started: list[Callback] = []
        try:
            for callback in self._callbacks:
                started.append(callback)
                callback.on_start(self._run)
            yield self
        except StopAskedError:
            self._run.ending.outcome = "stopped"
            raise
        finally:
            for callback in started:
                callback.on_end(self._run)

    def step(self, metrics: Mapping[str, float]) -> None:
        """A step has ended; see `Report.step`."""
        self.report.step(metrics)
        step = int(metrics["step"])
        rest = {name: value for name, value in metrics.items() if name != "step"}
        self._heed((callback, callback.on_step(step, rest)) for callback in self._callbacks)

    def evaluation(self, step: int, results: Mapping[str, Mapping[str, float]]) -> None:
        """The model after `step` steps is scored."""
        self.report.evaluation(step, results)
        self._heed((callback, callback.on_evaluation(step, results)) for callback in self._callbacks)

    def checkpoint(self, step: int, folder: Path) -> None:
        """The checkpoint of a step is whole."""
        self._heed((callback, callback.on_checkpoint(step, folder)) for callback in self._callbacks)

    def _heed(self, answers: Iterable[tuple[Callback, str | None]]) -> None:
        for callback, answer in answers:
            if answer not in (None, STOP):
                raise ValueError(f"{type(callback).__name__}: got {answer!r}, expected None or STOP from a callback")
            if answer == STOP:
                self._run.request_stop(f"{type(callback).__name__} asked for it")
