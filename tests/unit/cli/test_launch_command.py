"""`harness launch`: which argument goes to the harness, which to DeepSpeed's launcher, and how many ranks start."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from harness.hosts.launch_command import launch_command
from tests.unit.cli.command_line import invoke


@pytest.fixture
def gpus(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Sets how many GPUs this host has."""

    def has(number: int) -> None:
        monkeypatch.setattr("harness.hosts.launch_command.num_gpus", lambda environment: number)
        monkeypatch.setattr("harness.process.launch_words.num_gpus", lambda environment: number)

    return has


def after(words: list[str], word: str) -> str:
    return words[words.index(word) + 1]


def test_every_argument_goes_where_it_belongs(gpus: Any) -> None:
    gpus(4)
    given = [
        "r.yaml",
        "--set",
        "training.steps=3",
        "--output=out",
        "--master_port=29511",
        "--bind_cores_to_rank",
        "--verbose",
    ]
    words, variables = launch_command(given, None, 3, {})
    launcher, ours = words[: words.index("--module")], words[words.index("--module") :]
    assert ours == ["--module", "harness", "train", "r.yaml", "--set", "training.steps=3", "--output=out", "--verbose"]
    assert words[:6] == [sys.executable, "-m", "harness.launch", "--restarts", "3", "--"]
    assert after(launcher, "--num_accelerators") == "4"
    assert launcher.count("--master_port") == 0  # it is given
    assert {"--master_port=29511", "--bind_cores_to_rank"} <= set(launcher)
    assert "--log_level" not in launcher
    assert variables == {}


def test_ranks_are_the_gpus_unless_somebody_chooses(gpus: Any) -> None:
    gpus(4)
    assert after(launch_command(["r"], 2, 0, {})[0], "--num_accelerators") == "2"
    assert "--num_accelerators" not in launch_command(["r", "--include", "localhost:1"], None, 0, {})[0]
    assert "--num_accelerators" not in launch_command(["r"], None, 0, {"CUDA_VISIBLE_DEVICES": "1,2"})[0]
    with pytest.raises(ValueError, match="got 2 beside --include"):
        launch_command(["r", "--include", "localhost:1"], 2, 0, {})
    with pytest.raises(ValueError, match="got 8, expected at most the 4 GPU"):
        launch_command(["r"], 8, 0, {})
    gpus(0)
    words, variables = launch_command(["r"], None, 0, {}, is_check=True)
    assert after(words, "--num_accelerators") == "2"
    assert after(words, "harness") == "check"
    assert variables == {"DS_ACCELERATOR": "cpu", "OMP_NUM_THREADS": str(max(1, (os.cpu_count() or 1) // 2))}


def test_hosts_are_checked_first_and_what_they_get_lies_in_no_file_that_stays(
    gpus: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gpus(0)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    (tmp_path / "hosts").write_text("127.0.0.1 slots=2\n")
    flags = ["--hostfile", str(tmp_path / "hosts"), "--launcher", "slurm"]
    words, variables = launch_command(["r", *flags], None, 0, {**os.environ, "DS_ENV_FILE": "mine"})
    assert after(words, "--remove") == variables["DS_ENV_FILE"]
    assert Path(variables["DS_ENV_FILE"]).is_file()
    assert variables["HARNESS_USER_ENV_FILE"] == "mine"
    assert variables["PDSH_SSH_ARGS_APPEND"].startswith("-oServerAliveInterval")
    assert "--num_accelerators" not in words
    before = set(tmp_path.iterdir())
    with pytest.raises(ValueError, match=r"^--hostfile: got none, which is no file, [^\n]*$"):
        launch_command(["r", "--hostfile=none"], None, 0, dict(os.environ))
    assert set(tmp_path.iterdir()) == before


def test_the_command_becomes_the_launcher(monkeypatch: pytest.MonkeyPatch, gpus: Any) -> None:
    gpus(0)
    seen: list[Any] = []
    monkeypatch.setattr("os.execve", lambda *arguments: seen.append(arguments))
    done = invoke("launch", "demo", "--ranks", "3", "--set", "name=x", "--no_local_rank")
    assert done.exit_code == 0, done.output
    ((program, words, environment),) = seen
    assert program == sys.executable
    assert words[-5:] == ["harness", "train", "demo", "--set", "name=x"]
    assert "--no_local_rank" in words
    assert environment["DS_ACCELERATOR"] == "cpu"
    assert invoke("launch", "demo", "--set").exit_code == 2


def test_a_shell_completes_the_commands() -> None:
    variables = {**os.environ, "_HARNESS_COMPLETE": "complete_bash", "COMP_WORDS": "harness ev", "COMP_CWORD": "1"}
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            "import sys; sys.argv = ['harness']; from harness.__main__ import app; app(prog_name='harness')",
        ],
        env=variables,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.split() == ["evaluate"]
