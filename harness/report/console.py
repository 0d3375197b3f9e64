"""Floor 4: what the user sees: one live line on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from typing import Any

from rich.console import Console, RenderableType
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from harness import comm
from harness.types import StepStats

SECONDS_BETWEEN_LINES = 10.0
LINES_PER_RUN = 10
WIDTH_WITHOUT_TERMINAL = 110


class RunConsole:
    """Shows steps as they pass. Without a terminal: the first, the last, and one each 10 s or each tenth of the run.

    `total_steps` and `first_step` (the step before the first shown, 0 for a fresh run) give the time left.
    """

    def __init__(self, total_steps: int, first_step: int, console: Console | None = None) -> None:
        self.console = console or Console()
        if not self.console.is_terminal:
            self.console.width = WIDTH_WITHOUT_TERMINAL
        self.total_steps = total_steps
        self.first_step = first_step
        self._started: float | None = None
        self._shown_at = float("-inf")
        self._shown_step = first_step
        self._progress: Progress | None = None
        self._bar: TaskID | None = None

    def step(self, stats: StepStats) -> None:
        """Show a finished step."""
        now = time.monotonic()
        if self._started is None:
            self._started = now - stats.seconds
        text = self._words(stats, now)
        if self.console.is_terminal:
            self._move_bar(stats.step, text)
        elif self._is_due(stats.step, now):
            self._shown_at, self._shown_step = now, stats.step
            self.message(text)

    def message(self, text: str) -> None:
        """Print a line; it is never wrapped or styled."""
        self.console.print(text, markup=False, highlight=False, soft_wrap=True, emoji=False)

    def show(self, table: RenderableType) -> None:
        """Print a table or another thing that rich can draw."""
        self.console.print(table)

    def close(self) -> None:
        """End the live line and give the cursor back."""
        if self._progress is not None:
            self._progress.stop()
            self._progress = None

    def __enter__(self) -> RunConsole:
        return self

    def __exit__(self, *_: Any) -> None:
        self.close()

    def _move_bar(self, step: int, text: str) -> None:
        if self._progress is None:
            columns = (BarColumn(bar_width=20), TextColumn("{task.description}", markup=False))
            self._progress = Progress(*columns, console=self.console, refresh_per_second=4)
            self._bar = self._progress.add_task("", total=self.total_steps, completed=self.first_step)
            self._progress.start()
        assert self._bar is not None
        self._progress.update(self._bar, completed=step, description=text)

    def _is_due(self, step: int, now: float) -> bool:
        tenth = max(1, (self.total_steps - self.first_step) // LINES_PER_RUN)
        return (
            step in (self.first_step + 1, self.total_steps)
            or now - self._shown_at >= SECONDS_BETWEEN_LINES
            or step - self._shown_step >= tenth
        )

    def _words(self, stats: StepStats, now: float) -> str:
        speed = stats.num_texts / max(stats.seconds, 1e-9)
        words = f"step {stats.step}/{self.total_steps}  loss {stats.loss:.4f}  {speed:,.0f} texts/s"
        if stats.step >= self.total_steps or self._started is None:
            return words
        seconds_per_step = (now - self._started) / (stats.step - self.first_step)
        return f"{words}  {duration(seconds_per_step * (self.total_steps - stats.step))} left"


def duration(seconds: float) -> str:
    """`42 s`, `3:05 min` or `2:10 h`, whatever fits."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60}:{whole % 60:02d} min"
    return f"{whole // 3600}:{whole % 3600 // 60:02d} h"


class ReadingConsole:
    """Says every 10 s how many texts a first start has read and tokenised. Only the process that reads calls it."""

    def __init__(self, what: str, console: Console | None = None) -> None:
        self.what = what
        self.console = console or Console(stderr=True)
        self.num_texts = 0
        self._started = self._shown_at = time.monotonic()

    def __call__(self, num_texts: int) -> None:
        """Add texts that were read, or tokenised, since the last call."""
        self.num_texts += num_texts
        now = time.monotonic()
        if now - self._shown_at < SECONDS_BETWEEN_LINES:
            return
        self._shown_at = now
        rate = self.num_texts / (now - self._started)
        line = f"{self.what}: {self.num_texts:,} texts read or tokenised, {rate:,.0f} a second"
        self.console.print(line, soft_wrap=True, highlight=False, markup=False)


class MiningConsole:
    """One bar per stage with rate and time left; without a terminal a line every 10 s. Silent beside rank 0."""

    def __init__(self, console: Console | None = None) -> None:
        self._bars = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=20),
            MofNCompleteColumn(),
            TimeRemainingColumn(elapsed_when_finished=True),
            console=console or Console(stderr=True),
            disable=not comm.is_main(),
        )
        self._stages: dict[str, tuple[TaskID, int, float]] = {}  # bar, first number seen, when
        self._shown_at = float("-inf")

    def __enter__(self) -> MiningConsole:
        if self._bars.console.is_terminal:
            self._bars.start()
        return self

    def __exit__(self, *_: Any) -> None:
        self._bars.stop()

    def progress(self, stage: str, done: int, total: int) -> None:
        """`done` of `total` texts of a stage are finished."""
        now = time.monotonic()
        if stage not in self._stages:
            self._stages[stage] = self._bars.add_task(stage, total=total, completed=done), done, now
        bar, first, started = self._stages[stage]
        self._bars.update(bar, completed=done)
        ended = done >= total
        if (
            not comm.is_main()
            or self._bars.console.is_terminal
            or now - self._shown_at < SECONDS_BETWEEN_LINES * (not ended)
        ):
            return
        self._shown_at = now
        rate = (done - first) / max(now - started, 1e-9)
        left = f", {duration((total - done) / rate)} left" if rate and not ended else ""
        line = f"{stage}: {done:,} of {total:,}, {rate:,.0f} a second{left}"
        self._bars.console.print(line, soft_wrap=True, highlight=False, markup=False)
