"""What a command writes never replaces what is not its own."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.cli.evaluate import _check
from harness.cli.export import export_run
from tests.unit.cli.command_line import invoke
from tests.unit.run.test_folder import run_folder


def test_evaluate_does_not_replace_data_by_scores(tmp_path: Path) -> None:
    data = tmp_path / "pairs.jsonl"
    data.write_text('{"text1": "a", "text2": "b", "score": 1}\n')
    with pytest.raises(ValueError, match=r"--output: got .*, a file that is not a file of scores"):
        _check(data)


@pytest.mark.parametrize(("option", "name"), [("--json", "data.json"), ("--curve", "photo.png")])
def test_plan_replaces_only_its_own_files(tmp_path: Path, option: str, name: str) -> None:
    file = tmp_path / name
    file.write_text("years of work")
    done = invoke("plan", "demo", option, str(file))
    assert done.exit_code == 2
    assert done.stderr.startswith(f"{option}: got {file}, a file that is not a")
    assert file.read_text() == "years of work"


def test_report_writes_into_a_folder_of_its_own(tmp_path: Path) -> None:
    folder = run_folder(tmp_path)
    folder.prepare(trained_steps=0)
    (tmp_path / "paper" / "figures").mkdir(parents=True)
    (tmp_path / "paper" / "figures" / "loss.png").write_text("mine")
    done = invoke("report", str(folder.path), "--out", str(tmp_path / "paper"))
    assert done.exit_code == 2
    assert "which holds figures and is not a folder that harness report wrote" in done.stderr
    assert (tmp_path / "paper" / "figures" / "loss.png").read_text() == "mine"


def test_export_needs_a_new_folder_and_says_so_of_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(ValueError, match=r"--out: got .*file, but .* is a file, expected a folder"):
        export_run(tmp_path, tmp_path / "file")
    with pytest.raises(ValueError, match="which is not empty, expected a new or empty folder"):
        export_run(tmp_path, tmp_path)
