"""Builds a folder once, in one process; other processes see the folder only when it is complete."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable
from pathlib import Path

from filelock import BaseFileLock, FileLock

from harness.files import sync


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
            for file in (*unfinished.iterdir(), unfinished):
                sync(file)
            os.replace(unfinished, folder)
            sync(folder.parent)
        except OSError as error:
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
