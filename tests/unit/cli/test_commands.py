"""The command line: arguments are checked and reach the function that does the work."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from harness.cli.options import column_names
from tests.unit.cli.command_line import invoke, stub_trainer


def test_train_hands_on_the_checked_recipe(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    seen = []
    stub_trainer(monkeypatch, seen.append)
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
        stub_trainer(monkeypatch, lambda loaded: None)
        assert invoke(spelling, "train", "demo").exit_code == 0
        assert os.environ["LOCAL_RANK"] == "3"
    os.environ["LOCAL_RANK"] = "1"
    invoke("--local_rank=3", "train", "demo")
    assert os.environ["LOCAL_RANK"] == "1"


def test_evaluate_export_and_plan_reach_their_functions(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: dict[str, Any] = {}

    def record(name: str) -> Any:
        return lambda *arguments, **keywords: calls.__setitem__(name, (arguments, keywords))

    for name in ("evaluate.evaluate_model", "export.export_run", "plan.show_plan"):
        monkeypatch.setattr(f"harness.cli.{name}", record(name.partition(".")[2]))
    invoke(
        "evaluate", "runs/demo", "a", "b", "--output", "s.json", "--max-length", "256", "--pooling", "cls", "--dim", "8"
    )
    assert calls["evaluate_model"][0] == ("runs/demo", ["a", "b"])
    keywords = calls["evaluate_model"][1]
    assert (keywords["output"], keywords["max_length"]) == (Path("s.json"), 256)
    assert (keywords["pooling"], keywords["dims"], keywords["precision"]) == ("cls", [8], "fp32")
    invoke("export", "runs/demo", "--out", "there", "--step", "4", "--format", "onnx", "--int8", "--data", "a")
    assert calls["export_run"][0] == (Path("runs/demo"), Path("there"))
    keywords = calls["export_run"][1]
    assert (keywords["trust_remote_code"], keywords["step"], keywords["dtype"]) == (False, 4, "fp32")
    assert (keywords["with_onnx"], keywords["int8"], keywords["data"]) == (True, True, ["a"])
    invoke("export", "runs/demo", "--out", "there", "--average", "last:3")
    assert calls["export_run"][1]["average"] == "last:3"
    invoke("export", "runs/demo", "--out", "there", "--push-to-hub", "a/b", "--private", "--revision", "x")
    keywords = calls["export_run"][1]
    assert (keywords["push_to_hub"], keywords["private"], keywords["revision"]) == ("a/b", True, "x")
    assert not keywords["with_onnx"]
    invoke("plan", "demo", "--step", "3", "--ranks", "8")
    assert calls["show_plan"][0][1:3] == (3, 8)
    assert calls["show_plan"][0][0].config.name == "demo"


def test_plan_refuses_an_unknown_gpu_and_a_picture_of_another_kind_before_data_is_read(tmp_path: Path) -> None:
    for option, words in (
        ("--gpu=A1000", "--gpu: got A1000, expected one of V100-16"),
        ("--curve=a.jpg", "--curve: got a.jpg"),
    ):
        done = invoke("plan", "demo", option, "--data-root", str(tmp_path))
        assert done.exit_code == 2
        assert done.output.count("\n") == 1
        assert words in done.output


@pytest.mark.parametrize(
    ("module", "function", "arguments"),
    [
        ("evaluate", "evaluate_model", ["evaluate", "m", "d"]),
        ("mine", "mine_bank", ["mine", "m", "--queries", "q", "--out", "o"]),
        ("filter", "filter_data", ["filter", "m", "d", "--out", "o"]),
        ("export", "export_run", ["export", "r", "--out", "o"]),
    ],
)
def test_every_command_that_loads_a_model_can_let_its_code_run(
    monkeypatch: pytest.MonkeyPatch, module: str, function: str, arguments: list[str]
) -> None:
    seen: list[bool] = []
    work = f"harness.cli.{module}.{function}"
    monkeypatch.setattr(work, lambda *_, **keywords: seen.append(keywords["trust_remote_code"]))
    for option in ([], ["--trust-remote-code"]):
        done = invoke(*arguments, *option)
        assert done.exit_code == 0, done.output
    assert seen == [False, True]


def test_report_takes_run_folders_and_a_place_to_write(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Any] = []
    monkeypatch.setattr("harness.cli.report.draw_report", lambda *arguments: seen.append(arguments))
    assert invoke("report", "runs/demo").exit_code == 0
    assert invoke("report", "runs/a", "runs/b", "--out", "both").exit_code == 0
    assert seen == [([Path("runs/demo")], None), ([Path("runs/a"), Path("runs/b")], Path("both"))]
    assert invoke("report").exit_code == 2


@pytest.mark.parametrize("command", ["train", "evaluate", "mine", "filter", "export", "report", "plan", "check"])
def test_every_command_shows_an_example(command: str) -> None:
    done = invoke(command, "--help")
    assert done.exit_code == 0
    assert f"harness {command} " in done.output


def test_columns_of_a_command_line_are_those_of_a_task() -> None:
    given = ["query=question", "negative=bm25", "ignore=id", "negative=dense=2"]
    assert column_names(given) == {"query": "question", "negative": ("bm25", "dense=2"), "ignore": ("id",)}
    for text, words in (("query", "expected OURS=NAME"), ("textt=question", "expected our names of columns: anchor")):
        with pytest.raises(ValueError, match=f"--columns: got .*{words}"):
            column_names([text])
    with pytest.raises(ValueError, match="--columns: got query twice"):
        column_names(["query=a", "query=b"])


def test_evaluate_finds_the_model_before_it_reads_the_data(tmp_path: Path) -> None:
    (tmp_path / "pairs.jsonl").write_text("no row\n")
    done = invoke("evaluate", str(tmp_path / "nowhere"), str(tmp_path / "pairs.jsonl"))
    assert done.exit_code == 2
    assert done.output.count("\n") == 1
    assert "nowhere, which does not exist, expected a run folder, a checkpoint or a model's folder" in done.output
