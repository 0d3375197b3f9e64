"""Floor 0: files that outlive a kill or a power cut: whole or as before, never a part."""

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
    """Give a file new content in one move: a reader sees the old content or the new.

    content: the text, or what writes the bytes.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    with aside.open("wb") as stream:
        if isinstance(content, str):
            stream.write(content.encode())
        else:
            content(stream)
        stream.flush()
        os.fsync(stream.fileno())
    os.replace(aside, path)
    sync(path.parent)
