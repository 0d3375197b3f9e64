"""Builds a folder once, in one process; other processes see the folder only when it is complete.

Its content.json holds size and hash of every file, so that a later start sees whether they are as they were built.
"""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable
from pathlib import Path

from filelock import BaseFileLock, FileLock

from harness import comm, rank0
from harness.files import find_changes, replace_file, sizes_and_hashes, sync
from harness.settings import checked_json as json

CONTENT = "content.json"
_found_whole: set[tuple[tuple[str, int, int], ...]] = set()  # by this process: names, sizes and times of the files


def build_once(folder: Path, build: Callable[[Path], None]) -> None:
    """Build `folder` unless it exists. If several processes call this together, one builds and the others wait.

    build: fills an empty temporary folder, which is renamed to `folder` when `build` returns. If the process is killed
    earlier, `folder` does not exist, and the next start builds it anew.

    Raises:
        ValueError: the parent folder cannot be written, or its disk is full.
    """
    if folder.is_dir():
        return
    lock = _acquire_lock(folder)
    try:
        if folder.is_dir():  # another process built it while this one waited
            return
        unfinished = folder.with_name(f"{folder.name}.unfinished")
        shutil.rmtree(unfinished, ignore_errors=True)  # left by a process that was killed
        unfinished.mkdir()
        try:
            build(unfinished)
            replace_file(unfinished / CONTENT, json.dumps(sizes_and_hashes(unfinished, sorted(unfinished.iterdir()))))
            for file in (*unfinished.iterdir(), unfinished):
                sync(file)
            os.replace(unfinished, folder)
            sync(folder.parent)
        except OSError as error:
            if error.errno in (errno.ENOTEMPTY, errno.EEXIST) and folder.is_dir():
                return  # another host has built it, which a network file system showed late
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
            raise ValueError(
                f"data.cache: got {str(folder.parent)!r}, whose disk became full ({os.strerror(error.errno)}), "
                "expected room for about twice the unpacked data; free some, or name a folder on another disk"
            ) from error
        finally:
            shutil.rmtree(unfinished, ignore_errors=True)
    finally:
        lock.release()


def check_built(folder: Path) -> None:
    """Read all files of a built folder and compare them with the hashes in content.json. Every rank must call it.

    One rank of each host reads, once per start; the others wait.

    Raises:
        ValueError: on every rank, if a host finds a file that is not as it was built.
    """
    problems = rank0.by_each(lambda: _damage(folder) if comm.local_rank() == 0 else None)
    found = next((problem for problem in problems if problem is not None), None)
    if found is not None:
        raise ValueError(damaged(folder, found))


def _damage(folder: Path) -> str | None:
    try:
        content = dict(json.loads((folder / CONTENT).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return f"no readable {CONTENT}"
    files = [folder / name for name in (CONTENT, *content)]
    state = tuple((str(file), file.stat().st_size, file.stat().st_mtime_ns) for file in files if file.is_file())
    if state in _found_whole:
        return None
    problem = find_changes(folder, content)
    if problem is None:
        _found_whole.add(state)
    return problem


def damaged(folder: Path, what: str) -> str:
    """The message about a built folder that does not hold what was written there."""
    return (
        f"data.cache: got a damaged folder {str(folder)!r} ({what}), expected what an earlier start wrote there; "
        "delete it"
    )


def _acquire_lock(folder: Path) -> BaseFileLock:
    lock = FileLock(f"{folder}.lock")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except OSError as error:
        raise ValueError(
            f"data.cache: got {str(folder.parent)!r} ({error.strerror}), expected a folder that can be written; "
            "set data.cache in a recipe, XDG_CACHE_HOME elsewhere"
        ) from error
    return lock
