"""Files and folders that survive a kill or a power cut: whole, or as they were before, never half written."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any


def sync(path: Path) -> None:
    """Flush a file, or the names in a folder, to disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def replace_file(path: Path, content: str | Callable[[IO[bytes]], Any]) -> None:
    """Give a file new content at one moment: a reader sees all of the old content or all of the new.

    content: the text, or a function that writes the bytes.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    with unfinished.open("wb") as stream:
        if isinstance(content, str):
            stream.write(content.encode())
        else:
            content(stream)
        stream.flush()
        os.fsync(stream.fileno())
    os.replace(unfinished, path)
    sync(path.parent)


def create_once(path: Path, create: Callable[[Path], None]) -> None:
    """Create a file or a folder under another name and move it to `path` when it is complete; do nothing if it exists.

    create: called with the path to write to. For one process at a time.
    """
    if path.exists():
        return
    unfinished = path.with_name(f".{path.name}")
    shutil.rmtree(unfinished, ignore_errors=True)  # left by a start that was killed
    path.parent.mkdir(parents=True, exist_ok=True)
    create(unfinished)
    for part in (*unfinished.iterdir(), unfinished) if unfinished.is_dir() else (unfinished,):
        sync(part)
    os.replace(unfinished, path)
    sync(path.parent)
