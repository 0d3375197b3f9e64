"""What the runs in FOLDER have left: trained/NAME.json, scores/NAME.json, runs/NAME/metrics.jsonl.

A run is trained once trained/NAME.json is there, which has its development scores, and tested once scores/NAME.json is.
Its checkpoints are removed after training, its model after the test: a run is made again from its recipe.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.evidence.recipes import Run
from benchmarks.evidence.statistics import RunScores, Scores
from benchmarks.runner.command_line import write_json
from harness.evaluation.kinds.table import main_metric_of
from harness.report.history import RunHistory
from harness.report.metrics_file import read_entries
from harness.run.folder import RunFolder

START = "start"
DevCurve = dict[int, dict[str, float]]  # step → data set → main metric


@dataclass(frozen=True, slots=True)
class Trained:
    """dev: the main metrics on the development sets at every evaluation. seconds: of all steps of the run."""

    run: Run
    dev: DevCurve
    seconds: float

    @property
    def steps(self) -> int:
        return max(self.dev)

    def dev_score(self, step: int | None = None) -> float:
        """Mean over the development sets, by default at the last step."""
        return float(np.mean(list(self.dev[self.steps if step is None else step].values())))


@dataclass(frozen=True, slots=True)
class Results:
    """Reads and writes the files of an experiment in `out`."""

    out: Path

    def trained_file(self, run: Run) -> Path:
        return self.out / "trained" / f"{run.name}.json"

    def score_file(self, name: str) -> Path:
        return self.out / "scores" / f"{name}.json"

    def is_finished(self, run: Run, tested: bool) -> bool:
        return self.trained_file(run).exists() and (not tested or self.score_file(run.name).exists())

    def record_trained(self, run: Run, folder: Path) -> None:
        """Write trained/NAME.json from a run folder, and remove the run's checkpoints."""
        dev: dict[int, dict[str, float]] = {}
        for entry in read_entries(folder / "evaluation.json"):
            metrics = entry["metrics"]
            dev.setdefault(entry["step"], {})[entry["dataset"]] = metrics[main_metric_of(metrics)]
        seconds = float(np.nansum(RunFolder.containing(folder).history().column("seconds")))
        about = {"arm": run.arm, "rate": run.rate, "seed": run.seed, "seconds": seconds, "dev": dev}
        write_json(self.trained_file(run).with_suffix(".part"), about)
        self.trained_file(run).with_suffix(".part").replace(self.trained_file(run))
        shutil.rmtree(folder / "checkpoints", ignore_errors=True)
        shutil.rmtree(folder / "banks", ignore_errors=True)

    def trained(self, run: Run) -> Trained | None:
        """None if the run is not trained yet."""
        file = self.trained_file(run)
        return _trained(file) if file.exists() else None

    def all_trained(self) -> list[Trained]:
        """Every trained run, in the order of its file's name."""
        return [_trained(file) for file in sorted((self.out / "trained").glob("*.json"))]

    def scores(self, name: str) -> RunScores | None:
        """The test scores of a run or of `START`; None if it is not tested yet."""
        file = self.score_file(name)
        if not file.exists():
            return None
        datasets = json.loads(file.read_text(encoding="utf-8"))["datasets"]
        return {
            dataset: Scores(found["score"], np.array([found["score"]] if found["values"] is None else found["values"]))
            for dataset, found in datasets.items()
        }

    def history(self, run: Run) -> RunHistory:
        """The recorded steps of a trained run."""
        return RunFolder.containing(self.out / "runs" / run.name).history()

    def mean_tokens(self, run: Run) -> float:
        """Tokens of unique texts in a step of a trained run."""
        return float(np.nanmean(self.history(run).column("num_tokens")))

    def tested(self, arms: Sequence[str], rate_of: dict[str, float]) -> dict[str, dict[int, RunScores]]:
        """Arm → seed → test scores, of the runs with the arm's chosen rate, in the order of `arms`."""
        found: dict[str, dict[int, RunScores]] = {}
        for arm in arms:
            for trained in self.all_trained():
                scores = self.scores(trained.run.name)
                if trained.run.arm == arm and trained.run.rate == rate_of.get(arm) and scores is not None:
                    found.setdefault(arm, {})[trained.run.seed] = scores
        return found


def _trained(file: Path) -> Trained:
    about = json.loads(file.read_text(encoding="utf-8"))
    dev = {int(step): scores for step, scores in about["dev"].items()}
    return Trained(Run(about["arm"], about["rate"], about["seed"]), dev, about["seconds"])
