"""Helpers that write sources for the tests of this folder, and the type of the fixture that opens them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from harness.data.table.index import TaskData

QUERY_LENGTH, DOCUMENT_LENGTH = 6, 9
ROWS = [
    {
        "query": f"ral tin {i % 7}",
        "pos": [f"mok {i} sul ven" for _ in range(1 + i % 3)],
        "neg": [f"dip {j} " * 8 for j in range(i % 4)],
    }
    for i in range(60)
]
Open = Callable[..., TaskData]


def write_lines(path: Path, rows: list[Any]) -> Path:
    """Write one JSON line per row; a row that is text is written unchanged."""
    lines = (row if isinstance(row, str) else json.dumps(row, ensure_ascii=False) for row in rows)
    path.write_text("".join(line + "\n" for line in lines), encoding="utf-8")
    return path


def labelled(*labels: object) -> list[dict[str, Any]]:
    return [{"text": f"text {i}", "label": label} for i, label in enumerate(labels)]
