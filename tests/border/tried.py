"""Tries one input: runs a command of the harness, or compares embeddings with sentence-transformers'."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
TEXTS = ["Salt is kept in a dry jar", "the ferry leaves at noon", "MOSS grows on the north wall", "a lamp"]
LARGEST_DIFFERENCE = 1e-5


@dataclass(frozen=True, slots=True)
class Seen:
    """What became of an input, in a few words, and whether that is right."""

    what: str
    right: bool


@dataclass(frozen=True, slots=True)
class Case:
    """An input with a name, and the function that tries it."""

    name: str
    try_it: Callable[[], Seen]


@dataclass(frozen=True, slots=True)
class Done:
    """A finished command: its exit status and everything it printed."""

    status: int
    output: str

    @property
    def lines(self) -> list[str]:
        return [line for line in self.output.splitlines() if line.strip()]

    def line_with(self, pattern: str) -> str:
        """The first line in which the pattern occurs; empty if there is none."""
        return next((line.strip() for line in self.lines if re.search(pattern, line, re.IGNORECASE)), "")


def harness(*arguments: str | Path, folder: Path | None = None) -> Done:
    """Run a command of the harness without anybody who could answer a question."""
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'kernels'}", "DS_ACCELERATOR": "cpu"}
    environment |= {"OMP_NUM_THREADS": "1", "COLUMNS": "200", "HF_HUB_OFFLINE": "1"}
    command = [sys.executable, "-m", "harness", *map(str, arguments)]
    done = subprocess.run(
        command, cwd=folder, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )
    return Done(done.returncode, done.stdout + done.stderr)


def refused(done: Done, *words: str) -> Seen:
    """Right if the command ended with status 2 and one line that has all these words."""
    line = done.lines[-1] if done.lines else ""
    right = done.status == 2 and len(done.lines) <= 2 and all(word.lower() in line.lower() for word in words)
    return Seen(f"status {done.status}, {len(done.lines)} lines: {line}", right)


def said(done: Done, pattern: str) -> Seen:
    """Right if the command succeeded and said it in a line."""
    line = done.line_with(pattern)
    return Seen(
        line or f"status {done.status}, nothing about it: {' / '.join(done.lines[-2:])}",
        done.status == 0 and bool(line),
    )


def refused_or_said(done: Done, pattern: str) -> Seen:
    """Right if the command either refused the input in one line, or said it."""
    return refused(done) if done.status == 2 and done.line_with(pattern) else said(done, pattern)


def metrics_of(run: Path) -> list[dict[str, Any]]:
    """The rows of a run's metrics.jsonl."""
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]


def same_embeddings(folder: Path) -> Seen:
    """Right if queries, documents and sentences have the embeddings that sentence-transformers gives them."""
    import numpy as np
    from sentence_transformers import SentenceTransformer

    from harness.cli.parts.opened_model import open_model

    try:
        ours = open_model(str(folder), None, None, "fp32")
    except ValueError as error:
        return Seen(f"refused: {error}", "\n" not in str(error))
    theirs = SentenceTransformer(str(folder), device="cpu")
    differences = []
    for role, encode in (
        ("query", theirs.encode_query),
        ("document", theirs.encode_document),
        ("sentence", theirs.encode),
    ):
        expected = np.asarray(encode(TEXTS, show_progress_bar=False), dtype=np.float64)
        got = ours.encode(TEXTS, role).astype(np.float64)  # type: ignore[arg-type]
        expected, got = (rows / np.linalg.norm(rows, axis=1, keepdims=True) for rows in (expected, got))
        differences.append(float(np.abs(expected - got).max()))
    worst = max(differences)
    return Seen(f"embeddings differ by at most {worst:.1e}", worst <= LARGEST_DIFFERENCE)
