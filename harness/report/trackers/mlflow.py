"""Sends a run to the MLflow server of MLFLOW_TRACKING_URI, or without one into a file of the run folder."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mlflow import MlflowClient
from mlflow.entities import Metric, Param

from harness.report.trackers.tracker import FOLDER, Outcome, RunId, known
from harness.settings.section import flat

_STATUS = {"finished": "FINISHED", "stopped": "SCHEDULED", "failed": "FAILED"}
_AT_ONCE, _MOST_METRICS = 100, 1000  # params and metrics that one call may hold


class MlflowRun:
    """One run of the experiment MLFLOW_EXPERIMENT_NAME (`embeddings` without it)."""

    def __init__(self, folder: Path, settings: dict[str, Any], resumed_from: int) -> None:
        (folder / FOLDER).mkdir(parents=True, exist_ok=True)
        address = os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{(folder / FOLDER / 'mlflow.db').absolute()}"
        self._client = MlflowClient(tracking_uri=address)
        run_id = RunId(folder, "mlflow")
        earlier = run_id.read() if resumed_from else None
        self._run = earlier or self._new_run(folder, settings)
        run_id.write(self._run)
        if earlier:
            self._client.update_run(earlier, "RUNNING")

    def _new_run(self, folder: Path, settings: dict[str, Any]) -> str:
        name = os.environ.get("MLFLOW_EXPERIMENT_NAME", "embeddings")
        experiment = self._client.get_experiment_by_name(name)
        if experiment is None:
            experiment_id = self._client.create_experiment(name, str((folder / FOLDER / "artifacts").absolute()))
        else:
            experiment_id = experiment.experiment_id
        run_id = self._client.create_run(experiment_id, run_name=settings["name"]).info.run_id
        params = [Param(key, str(value)) for key, value in flat(settings).items()]
        for first in range(0, len(params), _AT_ONCE):
            self._client.log_batch(run_id, params=params[first : first + _AT_ONCE])
        return run_id

    def add(self, step: int, values: Mapping[str, float | None]) -> None:
        """Send the figures of a step."""
        now = int(time.time() * 1000)
        metrics = [Metric(_name(name), value, now, step) for name, value in known(values).items()]
        for first in range(0, len(metrics), _MOST_METRICS):
            self._client.log_batch(self._run, metrics=metrics[first : first + _MOST_METRICS])

    def close(self, outcome: Outcome) -> None:
        """Say how the run has ended."""
        self._client.set_terminated(self._run, _STATUS[outcome])


def _name(metric: str) -> str:
    """The name with _ for what MLflow refuses in names (the @ of ndcg_at_10@128, for example)."""
    return re.sub(r"[^\w. /:-]", "_", metric)
