"""Floor 4: what a run leaves (metrics.jsonl, run.json, evaluation.json, tensorboard/) and what it shows.

The trainer speaks to `Report` only. Files and console belong to rank 0; on other ranks every method does nothing.
"""

from __future__ import annotations

import atexit
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from rich.console import RenderableType

from harness import comm
from harness.report.console import RunConsole
from harness.report.metrics_file import EvaluationFile, MetricsFile, mean_rate
from harness.report.run_file import RunFile, peak_memory_bytes
from harness.report.tensorboard import TensorBoardFiles
from harness.types import StepStats

__all__ = ["EvaluationFile", "MetricsFile", "Report", "RunFile", "metrics_row", "peak_memory_bytes"]


METRICS, EVALUATION, RUN, TENSORBOARD = "metrics.jsonl", "evaluation.json", "run.json", "tensorboard"


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
    """Everything a run writes and shows, step by step, in `folder`.

    A fresh run (`resumed_from` 0) empties the files of an earlier one; a continued one cuts what lies after
    `resumed_from`. `data` and `evaluation_data` go into run.json as they are: path, rows and hash
    of every task's data and of every data set that is scored.
    """

    def __init__(
        self,
        folder: Path,
        config: ReportedConfig,
        total_steps: int,
        resumed_from: int,
        data: Sequence[Mapping[str, Any]] = (),
        evaluation_data: Sequence[Mapping[str, Any]] = (),
    ) -> None:
        self.folder = folder
        self._is_main = comm.is_main()
        if not self._is_main:
            return
        self._console = RunConsole(total_steps, resumed_from)
        atexit.register(self._console.close)  # a hidden cursor must not outlive the run
        if resumed_from == 0:
            for name in (METRICS, EVALUATION):
                (folder / name).unlink(missing_ok=True)
        self._metrics = MetricsFile(folder / METRICS)
        self._metrics.truncate_after(resumed_from)
        self._evaluations = EvaluationFile(folder / EVALUATION)
        self._evaluations.truncate_after(resumed_from)
        self._tensorboard = TensorBoardFiles(folder / TENSORBOARD, resumed_from)
        self._run_file = RunFile(folder / RUN)
        facts = {
            "name": config.name,
            "steps": total_steps,
            "world_size": comm.world_size(),
            "seed": config.training.seed,
            "data": [dict(entry) for entry in data],
            "evaluation_data": [dict(entry) for entry in evaluation_data],
        }
        self._run_file.start(facts, resumed_from)

    def step(self, stats: StepStats) -> None:
        """Record a finished step."""
        if self._is_main:
            row = metrics_row(stats)
            self._metrics.append(row)
            self._tensorboard.add(stats.step, {name: value for name, value in row.items() if name != "step"})
            self._console.step(stats)
            if row.get("queries_reranked"):
                self._console.message(_reranked(stats))

    def evaluation(self, step: int, results: Mapping[str, Mapping[str, float]]) -> None:
        """Record the scores of each data set after `step` steps."""
        if self._is_main:
            self._evaluations.add(step, results)
            scores = {f"{name}/{metric}": value for name, m in results.items() for metric, value in m.items()}
            self._tensorboard.add(step, {f"evaluation/{name}": value for name, value in scores.items()})

    def evaluation_results(self, step: int) -> dict[str, dict[str, float]]:
        """What `evaluation` recorded at a step, by this process or one before it; empty on ranks other than 0."""
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
        """Close the files and mark run.json finished, with speed over all steps and peak memory of every rank."""
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
        """Give the terminal back and write what is held back, also when a run stops early."""
        if self._is_main:
            self._console.close()
            self._tensorboard.close()

    def __enter__(self) -> Report:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _reranked(stats: StepStats) -> str:
    """What a re-mine did and cost."""
    unfilled = int(stats.extra["windows_unfilled"])
    short = f"; {unfilled:,} of them with too few candidates for a first window" if unfilled else ""
    rows, seconds = int(stats.extra["queries_reranked"]), stats.extra["seconds/mining"]
    return f"step {stats.step}: ranked the candidates of {rows:,} queries anew in {seconds:.1f} s{short}"


def metrics_row(stats: StepStats) -> dict[str, float | None]:
    """A row of metrics.jsonl: the names of DESIGN.md's contract, then what else the step reports."""
    seconds = max(stats.seconds, 1e-9)
    return {
        "step": stats.step,
        "loss": stats.loss,
        **{f"loss/{task}": loss for task, loss in stats.loss_per_task.items()},
        "learning_rate": stats.learning_rate,
        "gradient_norm": stats.gradient_norm,
        "texts_per_second": stats.num_texts / seconds,
        "tokens_per_second": stats.num_tokens / seconds,
        "positive_similarity": stats.positive_similarity,
        "negative_similarity": stats.negative_similarity,
        "seconds": stats.seconds,
        "num_texts": stats.num_texts,
        "num_tokens": stats.num_tokens,
        **stats.extra,
    }
