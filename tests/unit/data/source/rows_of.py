"""Writes rows into a file and reads them back as training does, for the tests of this folder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from harness.data.source.facts import FileFacts, ReadSettings
from harness.data.source.files import BadRow
from harness.data.source.formats import SourceReader
from harness.data.source.validation import validate
from harness.types import Example


def write(path: Path, content: Any) -> str:
    """Write bytes or text as they are, a list as JSON lines."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(content, list):
        content = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in content)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return str(path)


def read(
    path: str | tuple[str, ...], kind: Any = "retrieval", **settings: Any
) -> tuple[list[Example | str], list[FileFacts]]:
    """(the examples, and a line for each bad row, the facts of each file)."""
    reader = SourceReader(path, settings.pop("split", "train"), kind, ReadSettings(**settings))
    results: list[Example | str] = []
    facts = []
    for file in reader.files:
        facts.append(FileFacts(file))
        for line, row in reader.rows(file, facts[-1]):
            found = row if isinstance(row, BadRow) else validate(line, row.columns, row.row_format)
            results.append(found.message("F", line) if isinstance(found, BadRow) else found)
    reader.check_all_mapped()
    return results, facts


def texts(results: list[Example | str]) -> list[tuple[str, ...] | str]:
    """The texts of each example, a bar between its positives and its negatives; a bad row's line."""
    return [result if isinstance(result, str) else _texts(result) for result in results]


def _texts(example: Example) -> tuple[str, ...]:
    end = 1 + example.num_positives
    return (*example.texts[:end], "|", *example.texts[end:])
