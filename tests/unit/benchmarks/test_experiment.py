"""Experiments of many runs: finished work is not repeated, and the folder of another experiment is refused."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from benchmarks.runner import process
from benchmarks.runner.experiment import agreed_facts, chosen_runs, mine, run_all
from benchmarks.runner.result import in_figures, markdown_table, mean_and_spread

ARMS = ("static", "v1")


def test_a_seeds_arms_are_run_together() -> None:
    assert chosen_runs(None, ARMS, [0, 1]) == [("static", 0), ("v1", 0), ("static", 1), ("v1", 1)]
    assert chosen_runs(["v1:7"], ARMS, [0, 1]) == [("v1", 7)]


@pytest.mark.parametrize("wrong", ["v3:0", "v1", "v1:x", ":0"])
def test_a_run_that_does_not_exist_is_named(wrong: str) -> None:
    with pytest.raises(ValueError, match="--only: got"):
        chosen_runs([wrong], ARMS, [0])


def test_the_facts_are_made_once_and_other_settings_are_refused(tmp_path: Path) -> None:
    made = {"rows": {"faq": 3}}
    assert agreed_facts(tmp_path, {"model": "a", "size": (1, 2)}, lambda: made)["rows"] == {"faq": 3}
    assert agreed_facts(tmp_path, {"model": "a", "size": (1, 2)}, dict)["rows"] == {"faq": 3}
    with pytest.raises(
        ValueError, match=r"got .* other settings \(model: a, size: \[1, 2\]\), expected the same --model"
    ):
        agreed_facts(tmp_path, {"model": "b", "size": (1, 2)}, dict)


class Commands:
    """Replaces the harness: records the commands, and writes the files of `evaluate` and `mine`."""

    def __init__(self, failing: str = "") -> None:
        self.seen: list[tuple[str, str]] = []
        self.failing = failing

    def __call__(self, command: list[str], quiet: bool) -> None:
        verb, what = command[3], Path(command[4]).stem
        self.seen.append((verb, what))
        if what == self.failing:
            raise subprocess.CalledProcessError(3, command)
        if verb == "evaluate":
            file = Path(command[command.index("--output") + 1])
            file.parent.mkdir(exist_ok=True)
            file.write_text("{}")
        if verb == "mine":
            bank = Path(command[command.index("--out") + 1])
            bank.mkdir(parents=True)
            (bank / "bank.json").write_text("{}")


@pytest.fixture
def commands(monkeypatch: pytest.MonkeyPatch) -> Commands:
    found = Commands()
    monkeypatch.setattr(process, "run_command", found)
    return found


def start(out: Path, runs: list[tuple[str, int]]) -> None:
    def make(arm: str, seed: int) -> dict[str, Any]:
        return {"name": arm, "output": str(out / "runs" / f"{arm}-{seed}")}

    run_all(runs, make, out, [out / "data"], 32, jobs=1)


def test_a_failed_run_stops_no_other_and_is_the_only_one_done_again(commands: Commands, tmp_path: Path) -> None:
    commands.failing = "v1-0"
    with pytest.raises(subprocess.CalledProcessError):
        start(tmp_path, [("static", 0), ("v1", 0), ("static", 1), ("v1", 1)])
    assert [what for verb, what in commands.seen if verb == "train"] == ["static-0", "v1-0", "static-1", "v1-1"]
    assert [what for verb, what in commands.seen if verb == "evaluate"] == ["static-0", "static-1", "v1-1"]
    assert yaml.safe_load((tmp_path / "recipes" / "v1-0.yaml").read_text())["name"] == "v1"
    commands.seen, commands.failing = [], ""
    start(tmp_path, [("static", 0), ("v1", 0), ("static", 1), ("v1", 1)])
    assert commands.seen == [("train", "v1-0"), ("evaluate", "v1-0")]


def test_a_bank_that_is_there_is_not_mined_again(commands: Commands, tmp_path: Path) -> None:
    for _ in range(2):
        mine("model", tmp_path, tmp_path / "data", "faq", candidates=5, max_length=32)
    assert commands.seen == [("mine", "model")]


def test_spreads_are_of_a_sample_and_unknown_ones_are_left_out() -> None:
    assert mean_and_spread([1.0, 3.0]) == (2.0, pytest.approx(2**0.5))
    assert (mean_and_spread([1.0]), mean_and_spread([])) == ((1.0, None), (None, None))
    assert in_figures(0.5, 0.25, digits=2, sign="+") == "+0.50 ± 0.25"
    assert (in_figures(0.5, None), in_figures(None, None)) == ("0.5000", "")
    assert markdown_table(["a", "b"], [["c", "1"]]) == "| a | b |\n| --- | ---: |\n| c | 1 |"
