"""Command line code for all benchmarks: a parser that shows the module's docstring, and `--out` for figures as JSON."""

from __future__ import annotations

import argparse
import json
import re
from pathlib import Path
from typing import Any


def parser(doc: str | None) -> argparse.ArgumentParser:
    """A parser whose --help shows `doc`, the benchmark's module docstring, which names its command."""
    command = re.search(r"python -m benchmarks\.\w+", doc or "")
    return argparse.ArgumentParser(
        prog=command.group() if command else None,
        description=doc,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )


def add_out(options: argparse.ArgumentParser) -> None:
    """Add the option `--out FILE`: the figures are written to FILE as JSON."""
    options.add_argument("--out", type=Path, metavar="FILE", help="write the figures as JSON, too")


def write_json(path: Path | None, figures: Any) -> None:
    """Write the figures as JSON to `path` and create its folder. If `path` is None, write nothing."""
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
