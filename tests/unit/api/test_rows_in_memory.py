"""A recipe's rows in memory become files; what chose among them has done its work."""

from __future__ import annotations

from pathlib import Path

from harness.api.rows_in_memory import with_files
from harness.data.source.files import read_rows
from harness.data.source.shards import refuse_unused_split

SPLITS = {"train": [{"query": "q", "positive": "p"}], "dev": [{"query": "a", "positive": "b"}]}


def test_the_split_of_rows_in_memory_chooses_them_and_is_not_asked_of_their_file(tmp_path: Path) -> None:
    keys = {"data": {"cache": str(tmp_path)}, "tasks": [{"name": "t", "path": SPLITS, "split": "dev"}]}
    (task,) = with_files(keys)["tasks"]
    refuse_unused_split(task["path"], task.get("split", "train"))
    assert [row for _, row in read_rows(task["path"], "train")] == SPLITS["dev"]


def test_a_split_beside_a_path_is_kept(tmp_path: Path) -> None:
    keys = {"data": {"cache": str(tmp_path)}, "tasks": [{"name": "t", "path": "owner/name", "split": "dev"}]}
    assert with_files(keys)["tasks"][0]["split"] == "dev"
