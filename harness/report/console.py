"""What the user sees while the harness works: a live line on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

from rich.console import Console, RenderableType
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from harness import comm

SECONDS_BETWEEN_LINES = 10.0
LINES_PER_RUN = 10
WIDTH_WITHOUT_TERMINAL = 110


class RunConsole:
    """Shows finished steps and the time left.

    Without a terminal, it shows the first step, the last step, and one step per 10 s or per tenth of the run.
    trained_steps: how many of `total_steps` were trained before this process, 0 for a fresh run. pulse: gives what the
    live line says of the time since the last step.
    """

    def __init__(
        self,
        total_steps: int,
        trained_steps: int,
        console: Console | None = None,
        pulse: Callable[[], str] = lambda: "",
    ) -> None:
        self.console = console or Console()
        if not self.console.is_terminal:
            self.console.width = WIDTH_WITHOUT_TERMINAL
        self.total_steps = total_steps
        self.trained_steps = trained_steps
        self._pulse = pulse
        self._started: float | None = None
        self._shown_at = float("-inf")
        self._shown_step = trained_steps
        self._progress: Progress | None = None
        self._bar: TaskID | None = None

    def step(self, metrics: Mapping[str, float]) -> None:
        """Show a finished step: reads `step`, `seconds`, `loss`, `texts_per_second` and the metrics of re-ranking."""
        now, step = time.monotonic(), int(metrics["step"])
        if self._started is None:
            self._started = now - metrics["seconds"]
        text = self._describe(metrics, now)
        if self.console.is_terminal:
            self._move_bar(step, text)
        elif self._is_due(step, now):
            self._shown_at, self._shown_step = now, step
            self.message(text)
        if metrics.get("queries_reranked"):
            self.message(_describe_reranking(metrics))

    def message(self, text: str) -> None:
        """Print a line; it is never wrapped or styled."""
        self.console.print(text, markup=False, highlight=False, soft_wrap=True, emoji=False)

    def show(self, table: RenderableType) -> None:
        """Print a table or another object that rich can render."""
        self.console.print(table)

    def close(self) -> None:
        """End the live line and show the cursor again."""
        if self._progress is not None:
            self._progress.stop()
            self._progress = None

    def __enter__(self) -> RunConsole:
        return self

    def __exit__(self, *_: Any) -> None:
        self.close()

    def _move_bar(self, step: int, text: str) -> None:
        if self._progress is None:
            columns = (BarColumn(bar_width=20), TextColumn("{task.description}", markup=False), _Pulse(self._pulse))
            self._progress = Progress(*columns, console=self.console, refresh_per_second=4)
            self._bar = self._progress.add_task("", total=self.total_steps, completed=self.trained_steps)
            self._progress.start()
        assert self._bar is not None
        self._progress.update(self._bar, completed=step, description=text)

    def _is_due(self, step: int, now: float) -> bool:
        tenth = max(1, (self.total_steps - self.trained_steps) // LINES_PER_RUN)
        return (
            step in (self.trained_steps + 1, self.total_steps)
            or now - self._shown_at >= SECONDS_BETWEEN_LINES
            or step - self._shown_step >= tenth
        )

    def _describe(self, metrics: Mapping[str, float], now: float) -> str:
        step, loss, speed = int(metrics["step"]), metrics["loss"], metrics["texts_per_second"]
        line = f"step {step}/{self.total_steps}  loss {loss:.4f}  {speed:,.0f} texts/s"
        if step >= self.total_steps or self._started is None:
            return line
        seconds_per_step = (now - self._started) / (step - self.trained_steps)
        return f"{line}  {duration(seconds_per_step * (self.total_steps - step))} left"


class _Pulse(ProgressColumn):
    """The end of the live line, which changes also while no step ends."""

    def __init__(self, pulse: Callable[[], str]) -> None:
        super().__init__()
        self._pulse = pulse

    def render(self, task: Task) -> Text:
        return Text(self._pulse())


def _describe_reranking(metrics: Mapping[str, float]) -> str:
    """How many queries got a new ranking of their candidates, and the seconds it took."""
    unfilled = int(metrics["windows_unfilled"])
    shortage = f"; {unfilled:,} of them with too few candidates for a first window" if unfilled else ""
    queries, seconds = int(metrics["queries_reranked"]), metrics["seconds/mining"]
    return (
        f"step {int(metrics['step'])}: ranked the candidates of {queries:,} queries anew in {seconds:.1f} s{shortage}"
    )


def duration(seconds: float) -> str:
    """Seconds as `42 s`, `3:05 min` or `2:10 h`, in the unit that fits."""
    rounded = round(seconds)
    if rounded < 60:
        return f"{rounded} s"
    if rounded < 3600:
        return f"{rounded // 60}:{rounded % 60:02d} min"
    return f"{rounded // 3600}:{rounded % 3600 // 60:02d} h"


class ReadingConsole:
    """Prints every 10 s how many texts have been read and tokenised. Only the process that reads texts calls it.

    done: what is done with the texts, for the line.
    """

    def __init__(self, what: str, console: Console | None = None, done: str = "read or tokenised") -> None:
        self.what, self.done = what, done
        self.console = console or Console(stderr=True)
        self.num_texts = 0
        self._started = self._shown_at = time.monotonic()

    def __call__(self, num_texts: int) -> None:
        """Add the number of texts that were done since the last call."""
        self.num_texts += num_texts
        now = time.monotonic()
        if now - self._shown_at < SECONDS_BETWEEN_LINES:
            return
        self._shown_at = now
        rate = self.num_texts / (now - self._started)
        line = f"{self.what}: {self.num_texts:,} texts {self.done}, {rate:,.0f} a second"
        self.console.print(line, soft_wrap=True, highlight=False, markup=False)


class EvaluationConsole:
    """Shows which data set is being scored and, every 10 s, how many of its texts rank 0 has encoded. Only rank 0 shows
    it, on stderr."""

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or Console(stderr=True)
        self._encoded: ReadingConsole | None = None

    def start(self, name: str) -> None:
        """The next data set."""
        if comm.is_main():
            self.console.print(f"{name}: scoring", soft_wrap=True, highlight=False, markup=False)
            self._encoded = ReadingConsole(name, self.console, "encoded")

    def __call__(self, num_texts: int) -> None:
        """Add the number of texts that this rank has encoded since the last call."""
        if self._encoded is not None:
            self._encoded(num_texts)


class MiningConsole:
    """Shows how far each stage of mining is: a bar, or without a terminal a line every 10 s. Only rank 0 shows it.

    before: begins every line. in_lines: lines on a terminal, too, among those of a training.
    """

    def __init__(self, before: str = "", *, in_lines: bool = False, console: Console | None = None) -> None:
        self._before, self._in_lines = before, in_lines
        self._bars = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=20),
            MofNCompleteColumn(),
            TimeRemainingColumn(elapsed_when_finished=True),
            console=console or Console(stderr=True),
            disable=not comm.is_main(),
        )
        self._stages: dict[str, tuple[TaskID, int, float]] = {}  # bar, texts done at its start, time of its start
        self._shown_at = float("-inf")

    def __enter__(self) -> MiningConsole:
        if self._shows_bars:
            self._bars.start()
        return self

    @property
    def _shows_bars(self) -> bool:
        return self._bars.console.is_terminal and not self._in_lines

    def __exit__(self, *_: Any) -> None:
        self._bars.stop()

    def progress(self, stage: str, done: int, total: int) -> None:
        """Show that `done` of `total` texts of a stage are finished."""
        now = time.monotonic()
        if stage not in self._stages:
            self._stages[stage] = self._bars.add_task(stage, total=total, completed=done), done, now
        bar, done_at_start, started = self._stages[stage]
        self._bars.update(bar, completed=done)
        has_ended = done >= total
        if not comm.is_main() or self._shows_bars or now - self._shown_at < SECONDS_BETWEEN_LINES * (not has_ended):
            return
        self._shown_at = now
        rate = (done - done_at_start) / max(now - started, 1e-9)
        time_left = f", {duration((total - done) / rate)} left" if rate and not has_ended else ""
        line = f"{self._before}{stage}: {done:,} of {total:,}, {rate:,.0f} a second{time_left}"
        self._bars.console.print(line, soft_wrap=True, highlight=False, markup=False)
