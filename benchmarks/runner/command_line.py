"""What the command lines of the benchmarks share: a parser that shows the module's text, and figures as JSON."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any


def parser(doc: str | None) -> argparse.ArgumentParser:
    """A parser whose --help shows `doc`, the benchmark's module docstring, with its lines as they are."""
    return argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)


def add_out(options: argparse.ArgumentParser) -> None:
    """Add `--out FILE`: where the figures are written as JSON."""
    options.add_argument("--out", type=Path, metavar="FILE", help="write the figures as JSON, too")


def write_json(path: Path | None, figures: Any) -> None:
    """Write figures to a file, making its folder; without a path nothing is written."""
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
