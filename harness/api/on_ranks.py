"""Trains a recipe on several ranks of this host, which are processes of their own below DeepSpeed's launcher."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections import deque
from pathlib import Path
from typing import IO

import harness
from harness.api.recipe import Recipe
from harness.process import statuses
from harness.process.launch_words import launch_words, without_ranks

_LINES_OF_ERROR = 30


def train_on_ranks(recipe: Recipe, ranks: int, verbose: bool) -> None:
    """Start `ranks` ranks, show what they print, and wait for their end.

    Raises:
        ValueError: the line with which they ended because of a mistake.
        RuntimeError: they ended otherwise.
    """
    if not isinstance(ranks, int) or isinstance(ranks, bool) or ranks < 1:
        raise ValueError(f"ranks: got {ranks!r}, expected a number of at least 1")
    if "RANK" in os.environ:
        raise ValueError("ranks: got a number in a process that is a rank itself, expected None under a launcher")
    with tempfile.TemporaryDirectory(prefix="harness-") as folder:
        file = Path(folder) / "recipe.yaml"
        file.write_text(recipe.to_yaml(), encoding="utf-8")
        place = [f"--recipe-folder={recipe.loaded.recipe_folder.absolute()}"]
        if recipe.loaded.data_root is not None:
            place.append(f"--data-root={recipe.loaded.data_root.absolute()}")
        words, variables = launch_words([str(file), *place, *(["--verbose"] if verbose else [])], ranks, os.environ)
        status, last_lines = _run(words, without_ranks(os.environ) | variables | _import_path())
    if status == statuses.MISTAKE:
        raise ValueError("\n".join(last_lines) or "the ranks ended because of a mistake")
    if status == statuses.INTERRUPTED:
        raise KeyboardInterrupt
    if status not in (statuses.DONE, statuses.CONTINUE):
        printed = "\n".join(last_lines)
        raise RuntimeError(f"the ranks ended with status {status} (docs/runs.md says what that means)\n{printed}")


def _run(words: list[str], environment: dict[str, str]) -> tuple[int, list[str]]:
    """Returns the status, and the last lines of stderr. What is printed goes to this process's stdout and stderr.

    Those may be a notebook's, which show nothing that another process writes to its own.
    """
    process = subprocess.Popen(
        words,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
    )
    assert process.stdout is not None
    assert process.stderr is not None
    last_lines: deque[str] = deque(maxlen=_LINES_OF_ERROR)
    errors = threading.Thread(target=_show, args=(process.stderr, sys.stderr, last_lines), daemon=True)
    errors.start()
    try:
        _show(process.stdout, sys.stdout, deque(maxlen=1))
        status = process.wait()
    except BaseException:  # Ctrl-C in a notebook
        process.send_signal(signal.SIGINT)
        process.wait()
        raise
    errors.join()
    return statuses.of_process(status), list(last_lines)


def _show(source: IO[str], target: IO[str], kept: deque[str]) -> None:
    for line in source:
        kept.append(line.rstrip("\n"))
        target.write(line)
        target.flush()


def _import_path() -> dict[str, str]:
    """PYTHONPATH with the folders of the packages of this process, so that the ranks run the same code."""
    import fused_contrastive

    own = [str(Path(str(package.__file__)).parents[1]) for package in (harness, fused_contrastive)]
    before = [folder for folder in os.environ.get("PYTHONPATH", "").split(os.pathsep) if folder]
    return {"PYTHONPATH": os.pathsep.join(dict.fromkeys([*own, *before]))}
