"""The step benchmark: its figures come from the run and the kernel, a goal can be missed, a failure is told."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from subprocess import Popen
from types import SimpleNamespace

import pytest

from benchmarks.step import training
from benchmarks.step.benchmark import builds, summary, write_recipe
from benchmarks.step.machine import Work
from benchmarks.step.report import judge, show
from benchmarks.step.training import Build, StepFigures, TrainingFailedError, cost_of_processes, figures, train


def row(seconds: float, loss: float = 1.0) -> dict[str, float]:
    rates = {"texts_per_second": 10 / seconds, "tokens_per_second": 100 / seconds, "memory_bytes": 7}
    return {"loss": loss, "seconds": seconds, "seconds/embed": seconds / 2, **rates}


def test_the_first_step_of_a_run_is_not_counted() -> None:
    found = figures([row(100.0), row(2.0), row(4.0), row(3.0)], {})
    assert (found.seconds, found.texts_per_second, found.seconds_of_phase["embed"]) == (3.0, 10 / 3, 1.5)
    assert len(found.losses) == 4


def test_page_faults_and_cpu_seconds_are_those_of_the_steps_between_two_samples() -> None:
    found = figures([row(1.0)] * 4, {1: (1_000, 5.0), 4: (1_300, 6.5)})
    assert (found.page_faults, found.cpu_seconds) == (100, 0.5)


def test_what_was_not_sampled_is_unknown() -> None:
    found = figures([row(1.0)] * 2, {2: (1_000, 5.0)})
    assert found.page_faults is None
    assert found.cpu_seconds is None
    assert found.seconds_of_phase["reduce"] is None  # the rows of other builds lack it


def test_the_cost_of_a_process_contains_that_of_its_children() -> None:
    work = "import time; end = time.process_time() + 0.3\nwhile time.process_time() < end: pass\nprint('x', flush=True)"
    child = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {work + chr(10) + 'input()'!r}])"
    with Popen([sys.executable, "-c", child], stdin=-1, stdout=-1) as process:
        assert process.stdout is not None
        process.stdout.readline()
        _, with_child = cost_of_processes(process.pid)
        process.communicate(b"\n")
    assert with_child >= 0.3


def test_a_build_that_cannot_train_is_named_with_its_last_lines(tmp_path: Path) -> None:
    (tmp_path / "harness").mkdir()
    (tmp_path / "harness" / "__main__.py").write_text("raise SystemExit('no such recipe')")
    with pytest.raises(TrainingFailedError, match=r"broken: status 1: no such recipe"):
        train(Build("broken", tmp_path), tmp_path / "r.yaml", tmp_path / "out", ranks=1, threads=1)


def test_a_missed_goal_is_not_met() -> None:
    def side(speed: float, memory: int) -> dict[str, float]:
        return {"texts_per_second": speed, "peak_memory_bytes": memory, "share": speed / 20}

    key = "training.activation_memory=0"
    goals = judge(
        {("fp32", "baseline"): side(10, 100), ("fp32", "this build"): side(15, 300), ("fp32", key): side(9, 90)}
    )
    assert [(goal["what"], goal["figure"], goal["met"]) for goal in goals] == [
        ("fp32: speed over the baseline", 1.5, False),
        ("fp32: share of the matrix rate", 0.75, True),
        (f"fp32: memory of the baseline over that of {key}", 100 / 90, True),
    ]
    assert not judge({("fp32", "this build"): side(14, 100)})[0]["met"]


def test_useful_operations_are_three_passes_over_the_parameters() -> None:
    assert Work(parameters=10, tokens=7.0, padding=0.2).operations == 3 * 2 * 10 * 7


def test_a_folder_without_the_pairs_is_refused(tmp_path: Path) -> None:
    options = SimpleNamespace(batch=1, steps=1, shape=None, data_root=tmp_path, max_length=16, dropout=0.0, model="m")
    with pytest.raises(ValueError, match=r"--data-root: got .*, expected a folder that holds prompt_response"):
        write_recipe(options, tmp_path)


def test_every_setting_to_compare_is_a_side_of_this_build(tmp_path: Path) -> None:
    options = SimpleNamespace(baseline=tmp_path, compare=["a.b=1,c.d=2"], settings=["e.f=3"])
    names = [(build.name, build.settings) for build in builds(options)]
    assert names == [
        ("baseline", ("e.f=3",)),
        ("this build", ("e.f=3",)),
        ("a.b=1,c.d=2", ("e.f=3", "a.b=1", "c.d=2")),
    ]


def test_a_figure_that_is_unknown_is_printed_as_unknown(capsys: pytest.CaptureFixture[str]) -> None:
    phases = {**dict.fromkeys(training.PHASES, 0.1), "reduce": None}
    run = StepFigures((1.0,), 1.0, 10.0, 100.0, phases, None, None, 5)
    side = {"precision": "fp32", "name": "this build", "share": 0.5, **summary([run, run])}
    work = {"tokens": 1.0, "padding": 0.0, "parameters": 1, "operations": 6.0}
    show(
        {
            "ranks": 1, "threads": os.cpu_count(), "batch": 1, "work": work, "matrix_rates": {"fp32": 1e9},
            "sides": [side], "goals": [], "failures": {"fp32 x": "why"},
        }
    )  # fmt: skip
    printed = capsys.readouterr().out
    assert printed.count("unknown") == 3
    assert "FAILED fp32 x: why" in printed
