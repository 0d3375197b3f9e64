"""`harness init`: what is seen in data, and a recipe from it that plans."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from harness.data.plan.draw import turn
from harness.inspection.lengths import estimated
from harness.inspection.look import look_at, script_of
from harness.inspection.starting_recipe import Answers, as_text, starting_recipe
from harness.losses.config import LossConfig
from harness.settings.plain_name import plain_name
from harness.types import Balance
from tests.tiny import make_data, make_model, write_jsonl
from tests.unit.cli.command_line import invoke


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("init")
    make_model(folder / "model")
    make_data(folder / "data")
    return folder


def test_without_a_terminal_nothing_is_asked_and_the_recipe_plans(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Relative paths are those of the recipe, wherever the command is started."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
    out = folder / "recipes" / "mine.yaml"
    out.parent.mkdir()
    done = invoke("init", str(folder / "data"), "--model", str(folder / "model"), "--out", str(out))
    assert done.exit_code == 0, done.output
    tree = yaml.safe_load(out.read_text())
    assert {task["name"]: task["kind"] for task in tree["tasks"]} == {
        "retrieval": "retrieval", "sts": "sts", "intents": "classification"
    }  # fmt: skip
    assert tree["tasks"][1]["path"].startswith("../data/") or tree["tasks"][0]["path"].startswith("../data/")
    assert sorted(tree["evaluation"]["data"]) == ["../data/faq", "../data/intents", "../data/sts/test.jsonl"]
    assert tree["model"]["max_length"] == 32
    planned = invoke("plan", str(out))
    assert planned.exit_code == 0, planned.output
    again = invoke("init", str(folder / "data"), "--out", str(out))
    assert (again.exit_code, again.output.count("\n")) == (2, 1)
    assert "add --overwrite" in again.output


def test_what_is_answered_stands_in_the_recipe(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("harness.cli.starting.init._is_terminal", lambda: True)
    answers = iter(["my_run", 48, 12, 2.0, "bf16"])
    monkeypatch.setattr("typer.prompt", lambda *_, **__: next(answers))
    out = folder / "asked.yaml"
    data = folder / "data" / "retrieval.jsonl"
    done = invoke("init", str(data), "--model", str(folder / "model"), "--out", str(out))
    assert done.exit_code == 0, done.output
    tree = yaml.safe_load(out.read_text())
    assert (tree["name"], tree["model"]["max_length"], tree["tasks"][0]["quota"]) == ("my_run", 48, 12)
    assert tree["training"] == {"epochs": 2.0, "learning_rate": 2e-5, "precision": "bf16"}


@pytest.mark.parametrize(("cores_only", "balance"), [(True, "alternate"), (False, "cbb")])
def test_a_run_sees_examples_by_the_square_root_of_the_rows_whatever_a_step_holds(
    tmp_path: Path, cores_only: bool, balance: Balance
) -> None:
    """On CPU cores several tasks take turns, which was ahead where a step is small; one task has no turns to take."""
    for name, rows in (("large", 1600), ("small", 100)):
        write_jsonl(tmp_path / f"{name}.jsonl", [{"query": f"{name} {i}", "positive": f"p{i}"} for i in range(rows)])
    answers = Answers("mine", "model", 32, 60, 1.0, "fp32", cores_only)
    tree = starting_recipe(seen := look_at([tmp_path], estimated), answers, tmp_path)
    assert LossConfig.model_validate(tree.get("loss", {})).balance == balance
    assert ("docs/tasks_and_losses.md" in as_text(tree, seen)) == cores_only
    quotas = [task["quota"] for task in tree["tasks"]]
    steps = sum(quotas) if balance == "alternate" else 1  # a block of turns; at least one of each task
    turns = [turn(quotas, balance, 0, step)[0] for step in range(1, steps + 1)]
    examples = [quota * (turns.count(i) if balance == "alternate" else 1) for i, quota in enumerate(quotas)]
    assert examples[0] / examples[1] == pytest.approx(4, rel=0.05)
    alone = starting_recipe(look_at([tmp_path / "large.jsonl"], estimated), answers, tmp_path)
    assert "loss" not in alone


def test_pairs_with_a_label_are_judged_by_its_values_and_odd_files_are_named(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "judged.jsonl", [{"sentence1": "a", "sentence2": f"b{i}", "label": i % 2} for i in range(6)])
    write_jsonl(tmp_path / "near.jsonl", [{"sentence1": "a", "sentence2": "b", "label": i} for i in range(6)])
    write_jsonl(tmp_path / "odd.jsonl", [{"question": "a", "answer": "b"}])
    seen = look_at([tmp_path], estimated)
    assert {file.path.stem: file.kind for file in seen.training} == {"judged": "retrieval", "near": "sts"}
    ((path, reason),) = seen.left_out
    assert (path.name, "question, answer" in reason) == ("odd.jsonl", True)
    with pytest.raises(ValueError, match=r"got nothing to train on \(.*odd.jsonl: columns question, answer"):
        look_at([tmp_path / "odd.jsonl"], estimated)
    with pytest.raises(ValueError, match="got no such file or folder"):
        look_at([tmp_path / "none"], estimated)


def test_pairs_judged_one_by_one_are_similarity_and_not_retrieval(tmp_path: Path) -> None:
    """LCQMC and ATEC: retrieval would leave out every question whose one pair has the label 0."""
    judged = [{"sentence1": f"问题{i}", "sentence2": f"另一个问题{i}", "label": i % 2} for i in range(20)]
    of_queries = [{"sentence1": f"问题{i // 4}", "sentence2": f"答案{i}", "label": int(i % 4 == 0)} for i in range(20)]
    write_jsonl(tmp_path / "judged.jsonl", judged)
    write_jsonl(tmp_path / "queries.jsonl", of_queries)
    seen = look_at([tmp_path], estimated)
    assert [(file.path.stem, file.kind) for file in seen.training] == [("judged", "sts"), ("queries", "retrieval")]


def test_a_file_that_is_not_utf8_is_left_out_with_the_encoding_as_the_reason(tmp_path: Path) -> None:
    """ "no rows" would be said of a file that has a thousand."""
    write_jsonl(tmp_path / "a.jsonl", [{"query": f"问题{i}", "positive": "答案"} for i in range(3)])
    (tmp_path / "b.csv").write_bytes("query,positive\n茶能放多久,两年\n".encode("gbk"))
    [(path, reason)] = look_at([tmp_path], estimated).left_out
    assert path.name == "b.csv"
    assert "expected UTF-8; it looks like GB18030" in reason


def test_a_name_is_made_of_the_letters_that_the_file_has() -> None:
    assert plain_name("检索 数据.v1", "task", dots=False) == "检索_数据_v1"
    assert plain_name("-.训练", "task") == "训练"
    assert plain_name("", "task") == "task"


def test_scripts_and_lengths_are_told_without_a_tokenizer() -> None:
    assert script_of(["你好，世界 hello"]) == "LATIN"  # 5 letters of 9
    assert script_of(["你好世界你好世界 ok"]) == "CJK"
    assert script_of(["Straße"]) == "LATIN"
    assert script_of(["123"]) is None
    assert estimated(["你好世界", "abcdefgh"]).tolist() == [6, 4]


def test_columns_of_no_kind_and_rows_that_cannot_be_used_are_said_with_the_reason(tmp_path: Path) -> None:
    """`columns question, answer of no kind` named no way out, and `89 rows cannot be used` no reason."""
    write_jsonl(tmp_path / "qa.jsonl", [{"question": "a", "answer": "b"}])
    rows = [{"sentence1": f"a{i}", "sentence2": f"b{i}", "label": i % 2} for i in range(4)]
    answered = [{"sentence1": f"a{i}", "sentence2": "c", "label": 1 - i % 2} for i in (0, 1, 1)]
    write_jsonl(tmp_path / "pairs.jsonl", [*rows, *answered])  # a2 alone has no 1
    done = invoke("init", str(tmp_path), "--yes", "--out", str(tmp_path / "recipe.yaml"))
    assert "of no kind; a task says what they are: columns: {query: NAME, positive: NAME}" in done.output
    assert "1 of the first rows cannot be used (label: got 0 for every text of this query" in done.output
