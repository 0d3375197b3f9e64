"""All that a run tells what happens: its report, its trackers, then its callbacks in the order they were given in."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from harness import comm
from harness.process.stop_request import StopAskedError
from harness.report.report import Report
from harness.run.alarms.steps import step_alarms
from harness.run.callbacks.callback import STOP, Callback
from harness.run.callbacks.tracking import Tracking
from harness.run.folder import RunFolder
from harness.run.run import Run
from harness.run.start import memory_allocator
from harness.run.startup.length import epochs_fact


class Observers:
    """Hands every event on. Every rank must call it at the same moments, and have as many callbacks."""

    def __init__(self, run: Run, report: Report, tracking: Callback, callbacks: Sequence[Callback]) -> None:
        self.report = report
        self._run, self._callbacks, self._may_end = run, (tracking, *callbacks), bool(callbacks)

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

    def end_if_asked(self, step: int) -> None:
        """Make this step the last one if a callback of any rank has asked for it."""
        if self._may_end and comm.on_any_rank(self._run.ending.is_requested):
            self._run.ending.agree(step)

    def _heed(self, answers: Iterable[tuple[Callback, str | None]]) -> None:
        for callback, answer in answers:
            if answer not in (None, STOP):
                raise ValueError(f"{type(callback).__name__}: got {answer!r}, expected None or STOP from a callback")
            if answer == STOP:
                self._run.request_stop(f"{type(callback).__name__} asked for it")


@contextmanager
def observed(run: Run, folder: RunFolder, trained_steps: int, callbacks: Sequence[Callback]) -> Iterator[Observers]:
    """Open the report and the trackers of a run, and tell the callbacks that it starts. Every rank must enter it."""
    tracking = Tracking(folder, trained_steps)
    with _open_report(run, folder, trained_steps) as report:
        observers = Observers(run, report, tracking, callbacks)
        with observers.during_run():
            yield observers


def _open_report(run: Run, folder: RunFolder, trained_steps: int) -> Report:
    return Report(
        folder.path,
        run.config,
        run.config.training.num_steps,
        trained_steps,
        run.data_facts(),
        run.evaluation_facts(),
        {
            "loss_implementation": run.objective.loss.implementation,
            "allocator": memory_allocator(run.config, run.engine.stage),
            "changes": folder.changes.read() if trained_steps else [],
            "trackers": list(run.config.report.trackers),
            "epochs": epochs_fact(run.config),
            "ended_early": None,
        },
        watch=step_alarms(run, trained_steps),
    )
