"""Writes files and folders so that a kill or a power cut leaves the old content or the new one, never a part of it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any


def sync(path: Path) -> None:
    """Flush the content of a file, or the list of names in a folder, to disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def replace_file(path: Path, content: str | Callable[[IO[bytes]], Any]) -> None:
    """Replace the content of a file atomically: a reader sees the complete old content or the complete new content.

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

    create: called with the path to write to. Only one process at a time may call `create_once` for a path.
    """
    if path.exists():
        return
    unfinished = path.with_name(f".{path.name}")
    shutil.rmtree(unfinished, ignore_errors=True)  # left by a start that was killed
    path.parent.mkdir(parents=True, exist_ok=True)
    create(unfinished)
    written = (*unfinished.iterdir(), unfinished) if unfinished.is_dir() else (unfinished,)
    for written_path in written:
        sync(written_path)
    os.replace(unfinished, path)
    sync(path.parent)
