"""A folder is built by one process, and exists only when it is complete."""

from __future__ import annotations

import multiprocessing
import time
from pathlib import Path
from typing import Any

from harness.data.table.build_once import build_once


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
