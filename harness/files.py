"""Writing files so that a kill or a power cut leaves the old content or the new, never a part of it."""

from __future__ import annotations

import os
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

    content: the text, or a function that writes the bytes to the open file.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    with temporary.open("wb") as stream:
        if isinstance(content, str):
            stream.write(content.encode())
        else:
            content(stream)
        stream.flush()
        os.fsync(stream.fileno())
    os.replace(temporary, path)
    sync(path.parent)
