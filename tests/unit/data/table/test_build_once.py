"""A folder is built by one process, exists only when it is complete, and is checked whenever it is opened."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import time
from pathlib import Path
from typing import Any

import pytest

from harness.data.table import build_once as module
from harness.data.table.build_once import build_once, check_built
from tests.unit.data.table.sources import ROWS, Open, write_lines


def _build(folder: Path, log: Path, gate: Any) -> None:
    def build(unfinished: Path) -> None:
        with log.open("a") as stream:
            stream.write("built\n")
        (unfinished / "part").write_text("one")
        time.sleep(0.3)
        assert not folder.exists()
        (unfinished / "rest").write_text("two")

    gate.wait()
    build_once(folder, build)
    assert (folder / "rest").read_text() == "two"


def test_of_processes_that_start_together_one_builds_and_the_others_wait(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")  # the children touch files only
    arguments = (tmp_path / "rows" / "key", tmp_path / "log", context.Barrier(3))
    processes = [context.Process(target=_build, args=arguments) for _ in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(timeout=60)
    assert [process.exitcode for process in processes] == [0, 0, 0]
    assert (tmp_path / "log").read_text() == "built\n"


def test_a_flipped_bit_in_any_file_of_the_cache_is_found_when_it_is_opened(tmp_path: Path, open_data: Open) -> None:
    """Where a text begins, which row is a query's, what a label means: a wrong number gives other losses, no error."""
    path = write_lines(tmp_path / "a.jsonl", ROWS)
    open_data(path)
    files = [file for file in (tmp_path / "cache" / "rows").rglob("*") if file.is_file() and file.suffix != ".lock"]
    assert len(files) == 18
    for file in files:
        whole = file.read_bytes()
        file.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
        with pytest.raises(ValueError, match=r"^data\.cache: got a damaged folder .*; delete it$"):
            open_data(path)
        file.write_bytes(whole)
    open_data(path)


def test_a_folder_is_read_once_per_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str] = []
    find_changes = module.find_changes
    monkeypatch.setattr(
        module, "find_changes", lambda folder, content: read.append("") or find_changes(folder, content)
    )
    build_once(tmp_path / "key", lambda folder: (folder / "part").write_text("one") and None)
    for _ in range(3):
        check_built(tmp_path / "key")
    assert len(read) == 1
    (tmp_path / "key" / "part").write_text("two")
    with pytest.raises(ValueError, match=r"part: got other bytes than were written"):
        check_built(tmp_path / "key")


def test_a_folder_appears_whole_or_not_at_all(tmp_path: Path, open_data: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    """A build stopped just before its end leaves nothing that a later start would use."""
    path, replace = write_lines(tmp_path / "a.jsonl", ROWS), os.replace

    def stopped(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", stopped)
    with pytest.raises(KeyboardInterrupt):
        open_data(path)
    monkeypatch.setattr(os, "replace", replace)
    assert not [folder for folder in (tmp_path / "cache" / "rows").iterdir() if folder.is_dir()]
    assert open_data(path).num_rows == len(ROWS)


@pytest.mark.parametrize("left", [0, -8])
def test_a_damaged_cache_says_what_to_delete(tmp_path: Path, open_data: Open, left: int) -> None:
    path = write_lines(tmp_path / "a.jsonl", ROWS)
    open_data(path)
    (rows,) = [folder for folder in (tmp_path / "cache" / "rows").iterdir() if folder.is_dir()]
    array = rows / "text_hash_G.npy"
    array.write_bytes(array.read_bytes()[:left])
    with pytest.raises(ValueError, match=rf"data\.cache: got a damaged folder '{rows}'.*delete it"):
        open_data(path)
    shutil.rmtree(rows)
    assert open_data(path).num_rows == len(ROWS)


def test_a_folder_that_another_host_has_built_meanwhile_is_taken_as_it_is(tmp_path: Path) -> None:
    """A network file system may show the folder late, after the lock is free."""
    folder = tmp_path / "key"

    def build(unfinished: Path) -> None:
        (unfinished / "part").write_text("ours")
        folder.mkdir()
        (folder / "part").write_text("theirs")

    build_once(folder, build)
    assert (folder / "part").read_text() == "theirs"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["key", "key.lock"]
