"""Records a run in its folder (metrics.jsonl, run.json, evaluation.json) and shows it on the console.

Only rank 0 writes and prints; other ranks only write their heartbeat.
"""

from __future__ import annotations

import atexit
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from rich.console import RenderableType

from harness import comm
from harness.report.alive.heartbeat import Heartbeat
from harness.report.console import RunConsole
from harness.report.metrics_file import EvaluationFile, MetricsFile, mean_rate
from harness.report.run_file import RunFile

METRICS, EVALUATION, RUN = "metrics.jsonl", "evaluation.json", "run.json"


class _Training(Protocol):
    @property
    def seed(self) -> int: ...


class ReportedConfig(Protocol):
    """The keys of a recipe that run.json repeats."""

    @property
    def name(self) -> str: ...
    @property
    def training(self) -> _Training: ...


class Report:
    """Writes and shows a run, step by step.

    Args:
        folder: the run folder.
        config: the recipe.
        total_steps: the recipe's number of steps.
        resumed_from: the last step before a continued run starts again; the files lose their entries of later steps.
            0: a fresh run, which deletes the entries of an earlier run.
        data: facts about each task's data, for run.json.
        evaluation_data: facts about each evaluation data set, for run.json.
        facts: more facts for run.json.
        watch: called on rank 0 with the metrics of every step; returns warnings to show.
    """

    def __init__(
        self,
        folder: Path,
        config: ReportedConfig,
        total_steps: int,
        resumed_from: int,
        data: Sequence[Mapping[str, Any]] = (),
        evaluation_data: Sequence[Mapping[str, Any]] = (),
        facts: Mapping[str, Any] | None = None,
        watch: Callable[[Mapping[str, float]], Sequence[str]] = lambda metrics: (),
    ) -> None:
        self.folder, self._watch = folder, watch
        self._is_main = comm.is_main()
        self._heartbeat = Heartbeat(folder, comm.rank(), comm.world_size(), self.message)
        if not self._is_main:
            self._heartbeat.start()
            return
        self._console = RunConsole(total_steps, resumed_from, pulse=self._heartbeat.in_words)
        atexit.register(self._console.close)  # a hidden cursor must not outlive the run
        if resumed_from == 0:
            for name in (METRICS, EVALUATION):
                (folder / name).unlink(missing_ok=True)
        self._metrics = MetricsFile(folder / METRICS)
        self._metrics.truncate_after(resumed_from)
        self._evaluations = EvaluationFile(folder / EVALUATION)
        self._evaluations.truncate_after(resumed_from)
        self._run_file = RunFile(folder / RUN)
        all_facts = {
            "name": config.name,
            "steps": total_steps,
            "world_size": comm.world_size(),
            "seed": config.training.seed,
            "data": [dict(entry) for entry in data],
            "evaluation_data": [dict(entry) for entry in evaluation_data],
            **(facts or {}),
        }
        self._run_file.start(all_facts, resumed_from)
        self._heartbeat.start()
        self._prompts = {entry["name"]: entry["prompts"] for entry in evaluation_data if "prompts" in entry}

    def step(self, metrics: Mapping[str, float]) -> None:
        """Record a finished step. metrics: name → value of everything measured; `step` is the step's number."""
        self._heartbeat.step(int(metrics["step"]))
        if self._is_main:
            self._metrics.append(metrics)
            self._console.step(metrics)
            for warning in self._watch(metrics):
                self._console.message(f"warning: {warning}")

    def evaluation(self, step: int, results: Mapping[str, Mapping[str, float]]) -> None:
        """Record the scores of each data set after `step` steps."""
        if self._is_main:
            self._evaluations.add(step, results, self._prompts)

    def evaluation_results(self, step: int) -> dict[str, dict[str, float]]:
        """The scores of a step, including steps before the run was continued; empty on ranks other than 0."""
        return self._evaluations.results(step) if self._is_main else {}

    def message(self, text: str) -> None:
        """Print one line."""
        if self._is_main:
            self._console.message(text)

    def show(self, table: RenderableType) -> None:
        """Print a table."""
        if self._is_main:
            self._console.show(table)

    def finish(self, peak_memory_bytes_W: Sequence[int], **facts: Any) -> None:
        """Close the files and mark run.json finished. It gets the mean speed, each rank's peak memory, and `facts`."""
        if not self._is_main:
            return
        rows = self._metrics.rows()
        speed = {
            "texts_per_second": mean_rate(rows, "num_texts"),
            "tokens_per_second": mean_rate(rows, "num_tokens"),
        }
        self.close()
        self._run_file.finish({**speed, "peak_memory_bytes": list(peak_memory_bytes_W), **facts})

    def close(self) -> None:
        """Restore the terminal and write buffered values. Also called when a run stops early."""
        self._heartbeat.stop()
        if self._is_main:
            self._console.close()
            atexit.unregister(self._console.close)

    def __enter__(self) -> Report:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
