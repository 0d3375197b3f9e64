"""Trackers get the same figures under the same names, go on under the same id, and never end a run."""

from __future__ import annotations

import importlib
import os
import sqlite3
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from harness.report.trackers.table import check_trackers, open_tracker
from harness.report.trackers.tracker import known
from harness.run.callbacks.tracking import Tracking
from harness.run.folder import RunFolder
from tests.unit.report.test_files import events

SETTINGS = {"name": "tiny", "training": {"steps": 4, "seed": 0}}


class FakeWandb(ModuleType):
    """Records what it is called with, as wandb's run does."""

    def __init__(self) -> None:
        super().__init__("wandb")
        self.calls: list[tuple[str, Any]] = []
        self.is_down = False

    def init(self, **options: Any) -> FakeWandb:
        self.calls.append(("init", options))
        self.id = options["id"] or f"id{len(self.calls)}"
        return self

    def define_metric(self, name: str, step_metric: str | None = None) -> None: ...

    def log(self, values: dict[str, float]) -> None:
        if self.is_down:
            raise ConnectionError("no route to host")
        self.calls.append(("log", values))

    def finish(self, exit_code: int) -> None:
        self.calls.append(("finish", exit_code))


@pytest.fixture
def wandb(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeWandb]:
    fake = FakeWandb()
    monkeypatch.setitem(sys.modules, "wandb", fake)
    sys.modules.pop("harness.report.trackers.wandb", None)
    yield fake
    sys.modules.pop("harness.report.trackers.wandb", None)  # it holds the fake


def run_with(*trackers: str, outcome: str = "finished") -> Any:
    """As much of a run as trackers are shown."""
    config = SimpleNamespace(report=SimpleNamespace(trackers=trackers), model_dump=lambda mode: SETTINGS)
    return SimpleNamespace(config=config, outcome=outcome)


def test_figures_scores_recipe_and_end_reach_a_tracker_and_a_continued_run_has_its_id(
    tmp_path: Path, wandb: FakeWandb
) -> None:
    folder = RunFolder(None, tmp_path)  # type: ignore[arg-type]
    tracking = Tracking(folder, trained_steps=0)
    tracking.on_start(run_with("tensorboard", "wandb"))
    tracking.on_evaluation(0, {"faq": {"ndcg_at_10": 0.5}})
    tracking.on_step(1, {"loss": 2.0, "unknown": float("nan")})
    tracking.on_end(run_with(outcome="stopped"))
    (_, options), *calls = wandb.calls
    assert (options["config"], options["name"], options["id"]) == (SETTINGS, "tiny", None)
    assert Path(options["dir"]).is_relative_to(tmp_path)
    evaluated, trained = {"evaluation/faq/ndcg_at_10": 0.5, "step": 0}, {"loss": 2.0, "step": 1}
    assert calls == [("log", evaluated), ("log", trained), ("finish", 0)]
    assert events(tmp_path / "tensorboard", "evaluation/faq/ndcg_at_10") == [(0, 0.5)]
    assert events(tmp_path / "tensorboard", "loss") == [(1, 2.0)]

    wandb.calls.clear()
    Tracking(folder, trained_steps=1).on_start(run_with("wandb"))
    assert (wandb.calls[0][1]["id"], wandb.calls[0][1]["resume"]) == ("id1", "allow")
    Tracking(folder, trained_steps=0).on_start(run_with("wandb"))
    assert wandb.calls[1][1]["id"] is None  # a fresh run in the same folder is another one


def test_a_tracker_that_fails_is_warned_of_once_and_the_others_go_on(
    tmp_path: Path, wandb: FakeWandb, capsys: pytest.CaptureFixture[str]
) -> None:
    tracking = Tracking(RunFolder(None, tmp_path), trained_steps=0)  # type: ignore[arg-type]
    tracking.on_start(run_with("wandb", "tensorboard"))
    wandb.is_down = True
    for step in (1, 2):
        tracking.on_step(step, {"loss": 1.0})
    tracking.on_end(run_with())
    warning = "warning: report.trackers: wandb failed (no route to host) and gets nothing more of this start"
    assert capsys.readouterr().err.count(warning) == 1
    assert events(tmp_path / "tensorboard", "loss") == [(1, 1.0), (2, 1.0)]


def test_other_ranks_speak_to_no_tracker(tmp_path: Path, wandb: FakeWandb, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("harness.run.callbacks.tracking.comm.is_main", lambda: False)
    tracking = Tracking(RunFolder(None, tmp_path), trained_steps=0)  # type: ignore[arg-type]
    tracking.on_start(run_with("wandb"))
    tracking.on_step(1, {"loss": 1.0})
    tracking.on_end(run_with())
    assert wandb.calls == []


def test_a_package_that_is_missing_costs_one_line_with_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("harness.report.trackers.table.find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"report.trackers: got mlflow, .* pip install mlflow, or leave it out"):
        check_trackers(("mlflow",))
    check_trackers(())


def test_what_is_not_known_is_left_out() -> None:
    assert known({"a": 1, "b": None, "c": float("nan"), "d": float("inf")}) == {"a": 1.0}


def two_starts(name: str, folder: Path) -> str:
    """A run that is stopped after step 2 and continued; returns its id."""
    importlib.invalidate_caches()
    for first in (1, 3):
        tracker = open_tracker(name, folder, SETTINGS, resumed_from=first - 1)
        for step in (first, first + 1):
            tracker.add(step, {"loss": 1.0 / step, "evaluation/faq/ndcg_at_10@8": 0.5})
        tracker.close("stopped" if first == 1 else "finished")
    return (folder / "trackers" / f"{name}.id").read_text().strip()


def test_the_real_wandb_writes_offline_into_the_run_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("wandb")
    monkeypatch.setitem(os.environ, "WANDB_MODE", "offline")
    run_id = two_starts("wandb", tmp_path)
    written = sorted((tmp_path / "trackers" / "wandb").glob(f"offline-run-*/run-{run_id}.wandb"))
    assert len(written) == 2
    assert all(path.stat().st_size > 0 for path in written)


def test_the_real_mlflow_writes_one_run_into_a_file_of_the_run_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("mlflow")
    pytest.importorskip("sqlalchemy")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    run_id = two_starts("mlflow", tmp_path)
    with sqlite3.connect(tmp_path / "trackers" / "mlflow.db") as database:
        assert database.execute("select run_uuid, status from runs").fetchall() == [(run_id, "FINISHED")]
        rows = database.execute("select step, value from metrics where key = 'loss' order by step").fetchall()
        params = dict(database.execute("select key, value from params").fetchall())
    assert rows == [(step, 1.0 / step) for step in (1, 2, 3, 4)]
    assert params == {"name": "tiny", "training.steps": "4", "training.seed": "0"}
