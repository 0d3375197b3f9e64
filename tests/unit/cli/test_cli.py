"""The command line and launch.sh: arguments reach the right place, mistakes end in one line and status 2."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from typer.testing import CliRunner

import harness
import harness.__main__ as cli
from harness.quiet import has_gpu, prepare_environment

ROOT = Path(harness.__file__).parent.parent


@pytest.fixture(autouse=True)
def unchanged_process(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Commands prepare the environment of their process; the tests' own must stay as it is."""
    monkeypatch.setattr(cli, "prepare_environment", lambda verbose: None)
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "HARNESS_DEBUG"):
        monkeypatch.delenv(name, raising=False)
    environment = dict(os.environ)
    yield
    os.environ.clear()
    os.environ.update(environment)


def stub(monkeypatch: pytest.MonkeyPatch, module: str, **functions: Any) -> None:
    monkeypatch.setitem(sys.modules, f"harness.{module}", SimpleNamespace(**functions))
    monkeypatch.setattr(harness, module, sys.modules[f"harness.{module}"], raising=False)


def invoke(*arguments: str) -> Any:
    return CliRunner().invoke(cli.app, list(arguments))


def test_train_hands_on_the_checked_recipe(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    seen = []
    stub(monkeypatch, "trainer", train=seen.append)
    output = tmp_path / "a folder: odd # name"
    changes = ("--set", "training.steps=7", "--set", "name=x")
    done = invoke("train", "demo", *changes, "--output", str(output), "--data-root", str(tmp_path))
    assert done.exit_code == 0, done.output
    assert seen[0].config.training.steps == 7
    assert seen[0].config.output == str(output)
    assert seen[0].data_root == tmp_path


def test_the_launchers_local_rank_stands_before_the_subcommand(monkeypatch: pytest.MonkeyPatch) -> None:
    for spelling in ("--local_rank=3", "--local-rank=3"):
        os.environ.pop("LOCAL_RANK", None)
        stub(monkeypatch, "trainer", train=lambda loaded: None)
        assert invoke(spelling, "train", "demo").exit_code == 0
        assert os.environ["LOCAL_RANK"] == "3"
    os.environ["LOCAL_RANK"] = "1"
    invoke("--local_rank=3", "train", "demo")
    assert os.environ["LOCAL_RANK"] == "1"


def test_evaluate_export_and_plan_reach_their_functions(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: dict[str, Any] = {}

    def record(name: str) -> Any:
        return lambda *arguments, **keywords: calls.__setitem__(name, (arguments, keywords))

    names = ("evaluate_model", "export_run", "show_plan")
    stub(monkeypatch, "commands", **{name: record(name) for name in names})
    invoke(
        "evaluate", "runs/demo", "a", "b", "--output", "s.json", "--max-length", "256", "--pooling", "cls", "--dim", "8"
    )
    assert calls["evaluate_model"][0] == ("runs/demo", ["a", "b"])
    keywords = calls["evaluate_model"][1]
    assert (keywords["output"], keywords["max_length"]) == (Path("s.json"), 256)
    assert (keywords["pooling"], keywords["dims"], keywords["precision"]) == ("cls", [8], "fp32")
    invoke("export", "runs/demo", "--out", "there")
    assert calls["export_run"][0] == (Path("runs/demo"), Path("there"))
    invoke("plan", "demo", "--step", "3", "--ranks", "8")
    assert calls["show_plan"][0][1:] == (3, 8)
    assert calls["show_plan"][0][0].config.name == "demo"


def run_cli(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "harness", *arguments]
    return subprocess.run(
        command, capture_output=True, text=True, env={**os.environ, **environment}, cwd=ROOT, check=False
    )


def test_a_users_mistake_is_one_line_on_stderr_and_status_2() -> None:
    done = run_cli("--local_rank=0", "train", "demo", "--set", "training.learning_rat=1")
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr == "--set: training.learning_rat: unknown key; did you mean learning_rate?\n"


def test_the_traceback_is_shown_when_asked_for() -> None:
    done = run_cli("train", "nosuch", HARNESS_DEBUG="1")
    assert done.returncode == 2
    assert "Traceback" in done.stderr
    assert "RECIPE: got nosuch" in done.stderr


def test_another_rank_keeps_silent_while_rank_0_speaks() -> None:
    """One line per mistake, not one per rank: the launcher ends the others when rank 0 has ended."""
    processes = []
    for arguments in (("train", "nosuch"), ("train", "demo", "--nosuch")):
        command = [sys.executable, "-m", "harness", *arguments]
        environment = {**os.environ, "RANK": "1", "WORLD_SIZE": "2"}
        processes.append(subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment, cwd=ROOT))
    time.sleep(3)
    assert [process.poll() for process in processes] == [None, None]
    for process in processes:
        process.terminate()
        assert process.communicate()[1] == ""


def test_a_rank_alone_with_an_error_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cli, "OTHER_RANKS_WAIT_SECONDS", 0.0)
    monkeypatch.setenv("RANK", "1")
    done = invoke("train", "nosuch")
    assert done.exit_code == 2
    assert done.stderr.startswith("rank 1: RECIPE: got nosuch")


def test_an_error_from_inside_a_library_says_how_to_find_it(monkeypatch: pytest.MonkeyPatch) -> None:
    stub(monkeypatch, "trainer", train=lambda loaded: json.loads("{"))
    done = invoke("train", "demo")
    assert done.exit_code == 2
    assert "HARNESS_DEBUG=1 shows where" in done.stderr


def test_a_failure_that_is_no_users_mistake_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    stub(monkeypatch, "trainer", train=lambda loaded: 1 / 0)
    assert isinstance(invoke("train", "demo").exception, ZeroDivisionError)


@pytest.mark.parametrize("command", ["train", "evaluate", "mine", "filter", "export", "plan"])
def test_every_command_shows_an_example(command: str) -> None:
    done = invoke(command, "--help")
    assert done.exit_code == 0
    assert f"harness {command} " in done.output


def test_without_a_gpu_the_environment_is_set_for_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    monkeypatch.delenv("DS_ACCELERATOR", raising=False)
    monkeypatch.setenv("PATH", f"/first{os.pathsep}{Path(sys.executable).parent}")
    assert not has_gpu()
    prepare_environment(verbose=True)
    assert os.environ["DS_ACCELERATOR"] == "cpu"
    assert os.environ["PATH"].split(os.pathsep) == [str(Path(sys.executable).parent), "/first"]


def test_libraries_are_silent_but_for_errors_and_our_own_warnings_stay() -> None:
    code = """
import logging, warnings
from harness.quiet import prepare_environment
prepare_environment()
logger = logging.getLogger("DeepSpeed")
logger.setLevel(logging.INFO)  # what the library does when it is imported
logger.warning("their log line")
logger.error("their error")
warnings.warn_explicit("theirs", FutureWarning, "torch/x.py", 1, module="torch.x")
warnings.warn_explicit("ours", UserWarning, "harness/x.py", 1, module="harness.engine.x")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert done.stdout == ""
    assert done.stderr.splitlines() == ["their error", "warning: ours"]


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """launch.sh beside pins, with programs that write down how they were called."""
    for name in ("launch.sh", "pyproject.toml", "constraints.txt"):
        (tmp_path / name).write_bytes((ROOT / name).read_bytes())
    (tmp_path / "launch.sh").chmod(0o755)
    programs = tmp_path / "venv" / "bin"
    programs.mkdir(parents=True)
    program = """#!/bin/bash
name=${0##*/}
[[ $name == nvidia-smi ]] && { echo -n "$GPUS"; exit; }
echo "$name $* DS=$DS_ACCELERATOR OMP=$OMP_NUM_THREADS" >>"$CALLS"
[[ $name == deepspeed && $STAY ]] && { sleep 60 & echo $! >"$CALLS.pid"; wait; }
exit "${STATUS:-0}"
"""
    for name in ("python", "deepspeed", "nvidia-smi"):
        (programs / name).write_text(program)
        (programs / name).chmod(0o755)
    return tmp_path


def launch(checkout: Path, *arguments: str, **environment: str) -> tuple[int, list[str]]:
    calls = checkout / "calls"
    calls.write_text("")
    clean = {
        k: v for k, v in os.environ.items() if k not in ("DS_ACCELERATOR", "OMP_NUM_THREADS", "CUDA_VISIBLE_DEVICES")
    }
    clean |= {"VIRTUAL_ENV": str(checkout / "venv"), "CALLS": str(calls), **environment}
    done = subprocess.run([checkout / "launch.sh", *arguments], env=clean, capture_output=True, text=True, check=False)
    return done.returncode, calls.read_text().splitlines()


def test_launch_installs_once_and_again_only_when_pins_or_extras_change(checkout: Path) -> None:
    def installs(*arguments: str) -> list[str]:
        return [
            call.split("-e ")[1].split("[")[1].split("]")[0]
            for call in launch(checkout, *arguments)[1]
            if "pip" in call
        ]

    assert installs() == ["demo"]
    assert installs() == []
    assert installs("test") == ["demo,test"]
    assert installs("test") == []
    assert installs() == []  # what the tests need holds what a run needs
    (checkout / "constraints.txt").write_text("torch==2.13.0\n")
    assert installs() == ["demo"]


def test_a_failed_installation_is_not_taken_for_a_whole_one(checkout: Path) -> None:
    assert launch(checkout, STATUS="3")[0] == 3
    assert any("pip" in call for call in launch(checkout)[1])


def test_launch_starts_two_cpu_ranks_without_a_gpu_and_one_per_gpu_with(checkout: Path) -> None:
    launch(checkout)
    quiet = "deepspeed --log_level critical"
    assert launch(checkout)[1][0].startswith(f"{quiet} --num_accelerators 2 --module harness train demo DS=cpu OMP=")
    gpus = "GPU 0: a\nGPU 1: b\nGPU 2: c\n"
    assert launch(checkout, GPUS=gpus)[1] == [f"{quiet} --num_accelerators 3 --module harness train demo DS= OMP="]
    chosen = launch(checkout, GPUS=gpus, CUDA_VISIBLE_DEVICES="1,2")[1]  # the launcher reads these itself
    assert chosen == [f"{quiet} --module harness train demo DS= OMP="]
    assert "num_accelerators 2" in launch(checkout, GPUS=gpus, CUDA_VISIBLE_DEVICES="")[1][0]


def test_launch_gives_the_harness_its_arguments_and_the_launcher_all_others(checkout: Path) -> None:
    launch(checkout)
    arguments = ("my.yaml", "--hostfile", "F", "--set", "a.b=1", "--master_port", "3", "--data-root", "D", "--verbose")
    status, calls = launch(checkout, *arguments, STATUS="7", OMP_NUM_THREADS="5", DS_ACCELERATOR="cpu")
    expected = (
        "deepspeed --hostfile F --master_port 3 --module harness train my.yaml --set a.b=1 --data-root D --verbose"
    )
    assert calls == [f"{expected} DS=cpu OMP=5"]
    assert status == 7
    _, calls = launch(checkout, "--set", "training.steps=3")
    assert calls[0].split(" DS=")[0].endswith("--module harness train demo --set training.steps=3")


def test_launch_test_hands_its_arguments_to_pytest(checkout: Path) -> None:
    launch(checkout, "test")
    workers = "-n logical --maxprocesses 4"
    assert launch(checkout, "test", "-k", "x y")[1] == [f"python -m pytest {workers} -k x y DS=cpu OMP="]


def test_stopping_launch_ends_the_launcher_and_every_process_below_it(checkout: Path) -> None:
    launch(checkout)
    environment = {**os.environ, "VIRTUAL_ENV": str(checkout / "venv"), "CALLS": str(checkout / "calls"), "STAY": "1"}
    process = subprocess.Popen([checkout / "launch.sh"], env=environment, stderr=subprocess.PIPE, text=True)
    pid_file = checkout / "calls.pid"
    deadline = time.monotonic() + 20
    while not (pid_file.exists() and pid_file.read_text().strip()):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=20) == 130
    assert process.communicate()[1] == ""
    with pytest.raises(ProcessLookupError):  # noqa: PT012
        while time.monotonic() < deadline:
            os.kill(int(pid_file.read_text()), 0)
            time.sleep(0.05)


def test_report_takes_run_folders_and_a_place_to_write(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Any] = []
    stub(monkeypatch, "commands", draw_report=lambda *arguments: seen.append(arguments))
    assert invoke("report", "runs/demo").exit_code == 0
    assert invoke("report", "runs/a", "runs/b", "--out", "both").exit_code == 0
    assert seen == [([Path("runs/demo")], None), ([Path("runs/a"), Path("runs/b")], Path("both"))]
    assert invoke("report").exit_code == 2


def test_a_report_of_no_run_is_a_mistake_in_one_line(tmp_path: Path) -> None:
    done = invoke("report", str(tmp_path))
    assert done.exit_code == 2
    assert done.output == f"RUN: got {tmp_path}, expected a run folder (with recipe.yaml) or one of its checkpoints\n"
