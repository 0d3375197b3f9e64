"""What a stage leaves on disk: made by rank 0, whole or not at all; other ranks wait without a collective's limit."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path

from harness import comm
from harness.files import sync

POLL_SECONDS = 0.05


def made_by_main(path: Path, make: Callable[[Path], None]) -> Path:
    """The file or folder `path`, made by `make(aside)` on rank 0 unless an earlier start left it. Every rank calls it.

    Other ranks watch for it: a collective would give up after its time limit, and reading can take hours.
    """
    if comm.is_main() and not path.exists():
        aside = path.with_name(f".{path.name}")
        shutil.rmtree(aside, ignore_errors=True)  # of a start that was killed
        path.parent.mkdir(parents=True, exist_ok=True)
        make(aside)
        for part in (*aside.iterdir(), aside) if aside.is_dir() else (aside,):
            sync(part)
        os.replace(aside, path)
        sync(path.parent)
    while not path.exists():
        time.sleep(POLL_SECONDS)
    return path
