"""What FlagEmbedding's trainer takes from files and rows becomes keys of the recipe, as its AbsDataset.py has it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from harness.config import check_tree
from harness.conversion.convert import Converted, convert
from harness.conversion.given.read import read_given
from tests.tiny import write_jsonl

FORMAT = ["--query_instruction_for_retrieval", "Find it", "--query_instruction_format", "Instruct: {}\\nQuery: {}"]
SAME = ["--same_dataset_within_batch", "True"]
SCORES = {"pos_scores": [1.0], "neg_scores": [0.5, 0.2]}


def rows(name: str, **more: Any) -> list[dict[str, Any]]:
    return [{"query": f"{name}{i}", "pos": [f"p{name}{i}"], "neg": ["n", "m"], **more} for i in range(4)]


def converted(folder: Path, paths: list[Path], *more: str) -> Converted:
    words = "torchrun --nproc_per_node 2 -m FlagEmbedding.finetune.embedder.encoder_only.base --model_name_or_path m"
    words += " --per_device_train_batch_size 4 --train_data"
    found = convert(read_given([*words.split(), *map(str, paths), *more], None))
    check_tree(found.tree, "converted", folder)
    return found


def test_files_are_one_task_unless_a_batch_is_to_be_of_one(tmp_path: Path) -> None:
    """Theirs is a batch of 8 in both cases: a quota of 8 for each file would make it 24."""
    folder = tmp_path / "more"
    paths = [write_jsonl(tmp_path / "a.jsonl", rows("a")), folder]
    more = [write_jsonl(folder / name, rows(name)) for name in ("b.jsonl", "dev.jsonl")]
    (folder / "notes.txt").write_text("no data")
    (task,) = converted(tmp_path, paths).tree["tasks"]
    assert (task["name"], task["quota"]) == ("train_data", 8)
    assert task["path"] == [str(path) for path in (paths[0], *more)]  # a folder is read whole, whatever is called dev
    found = converted(tmp_path, paths, *SAME).tree
    assert (found["data"], found["loss"]["balance"]) == ({"batch": 8}, "homogeneous")
    assert [(task["path"], task["share"]) for task in found["tasks"]] == [
        (str(path), "auto") for path in (paths[0], *more)
    ]


def test_a_batch_smaller_than_the_number_of_files_is_raised_and_said(tmp_path: Path) -> None:
    paths = [write_jsonl(tmp_path / f"{i}.jsonl", rows(str(i))) for i in range(9)]
    found = converted(tmp_path, paths, *SAME)
    assert found.tree["data"] == {"batch": 9}
    assert any("raised from 8" in str(remark) for remark in found.remarks)


def test_an_epoch_is_that_of_the_largest_file(tmp_path: Path) -> None:
    """That of the task that needs the most steps is one with few rows and a share of 1: 152 steps for 95 of theirs."""
    paths = [write_jsonl(tmp_path / "a.jsonl", rows("a")), write_jsonl(tmp_path / "b.jsonl", rows("b") * 9)]
    assert converted(tmp_path, paths, *SAME).tree["training"]["epoch_of"] == "b"
    assert "epoch_of" not in converted(tmp_path, paths, *SAME, "--max_steps", "9").tree["training"]
    assert "epoch_of" not in converted(tmp_path, [*paths, tmp_path / "absent.jsonl"], *SAME).tree["training"]


@pytest.mark.parametrize(
    ("kind", "negatives", "prompts"),
    [
        ("symmetric_class", {"per_query": 2, "draw": "random"}, {"query": "Q "}),  # as many as the first row has
        ("only_1neg", {"per_query": 1, "draw": "random"}, {"query": "Q "}),
        ("symmetric_sts", {"per_query": 3, "draw": "random"}, {"query": "Q ", "document": "Q "}),
        ("normal", {"per_query": 3, "draw": "random"}, {"query": "Q "}),
    ],
)
def test_the_type_of_rows_counts_where_their_trainer_reads_it(
    tmp_path: Path, kind: str, negatives: dict[str, Any], prompts: dict[str, str]
) -> None:
    """Every file that BGE's authors publish has the column: a conversion that stops at it converts nothing."""
    file = write_jsonl(tmp_path / "a.jsonl", rows("a", type=kind))
    arguments = ["--query_instruction_for_retrieval", "Q ", "--train_group_size", "4"]
    found = converted(tmp_path, [file], *arguments, *SAME)
    (task,) = found.tree["tasks"]
    assert (task["negatives"], task["prompts"]) == (negatives, prompts)
    assert task["columns"] == {"ignore": ["type"]}
    assert any("half the size" in str(remark) for remark in found.remarks) == ("symmetric" in kind)
    (task,) = converted(tmp_path, [file], *arguments).tree["tasks"]  # without it, the trainer never looks at it
    assert (task["negatives"], task["prompts"]) == ({"per_query": 3, "draw": "random"}, {"query": "Q "})


def test_prompts_of_rows_are_put_into_the_format_or_left_out_as_there(tmp_path: Path) -> None:
    """The reader of rows puts a row's prompt before its query as it is: the format would be lost without a word."""
    files = [write_jsonl(tmp_path / f"{name}.jsonl", rows(name, prompt=f"Find {name}")) for name in "ab"]
    found = converted(tmp_path, files, *FORMAT).tree
    assert [task["prompts"]["query"] for task in found["tasks"]] == [
        "Instruct: Find a\nQuery: ",
        "Instruct: Find b\nQuery: ",
    ]
    assert [task["negatives"]["scope"] for task in found["tasks"]] == ["step", "step"]  # one batch of both, as there
    assert (found["loss"]["balance"], found["data"]) == ("cbb", {"batch": 8})
    assert all(task["columns"] == {"ignore": ["prompt"]} for task in found["tasks"])
    (task,) = converted(tmp_path, files).tree["tasks"]  # no instruction: its trainer does not read them
    assert task["columns"] == {"ignore": ["prompt"]}
    (task,) = converted(tmp_path, files, *FORMAT[:2]).tree["tasks"]  # "{}{}": the text itself
    assert "columns" not in task


def test_several_prompts_in_a_file_beside_a_format_are_refused(tmp_path: Path) -> None:
    file = write_jsonl(tmp_path / "a.jsonl", rows("a", prompt="x") + rows("b", prompt="y"))
    with pytest.raises(ValueError, match=r"prompt: got 2 or more different texts.*split the file by prompt"):
        converted(tmp_path, [file], *FORMAT)


def test_a_file_without_scores_is_not_distilled_where_a_batch_is_of_one_file(tmp_path: Path) -> None:
    files = [write_jsonl(tmp_path / "a.jsonl", rows("a", **SCORES)), write_jsonl(tmp_path / "b.jsonl", rows("b"))]
    found = converted(tmp_path, files, "--knowledge_distillation", "True", *SAME)
    assert [task.get("loss") for task in found.tree["tasks"]] == [["info_nce", "kl"], None]
    assert any("no scores" in str(remark) for remark in found.remarks)


def test_negatives_of_other_queries_count_as_their_trainer_counts_them(tmp_path: Path) -> None:
    file = write_jsonl(tmp_path / "a-no_in_batch_neg" / "x.jsonl", rows("a"))
    (task,) = converted(tmp_path, [file.parent], *SAME).tree["tasks"]
    assert task["negatives"]["scope"] == "own"
    marked = write_jsonl(tmp_path / "a-no_in_batch_neg.jsonl", rows("a"))
    found = converted(tmp_path, [marked])
    assert found.tree["tasks"][0]["negatives"]["scope"] == "task"  # it reads the name with same_dataset_within_batch
    assert any("no notice of no_in_batch_neg" in str(remark) for remark in found.remarks)


@pytest.mark.parametrize(
    ("module", "words"),
    [
        ("hn_mine.py", "harness mine does its work"),
        ("-m FlagEmbedding.finetune.reranker.encoder_only.base", "cross-encoders are not trained here"),
        ("-m FlagEmbedding.evaluation.custom", "harness evaluate does its work"),
    ],
)
def test_a_command_that_trains_no_embeddings_is_no_recipe(module: str, words: str) -> None:
    """A reranker's arguments are those of an embedder: its recipe would train something else."""
    command = f"torchrun {module} --model_name_or_path m --train_data d.jsonl"
    with pytest.raises(ValueError, match=words):
        read_given(command.split(), None)
