"""Reads and writes metrics.jsonl and evaluation.json, the measurements of a run at each step.

Both files survive a kill at any moment. metrics.jsonl may lose its last, unfinished line; evaluation.json is replaced
atomically.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from harness.files import replace_file
from harness.settings import checked_json as json

Row = dict[str, Any]


class MetricsFile:
    """metrics.jsonl: a JSON object per step. Every row has every key; a value that is missing or not finite is null."""

    def __init__(self, path: Path) -> None:
        """Open the file, if it exists, and remove an incomplete last line.

        Raises:
            ValueError: `PATH:LINE: ...` for a line other than the last that is no JSON object with a step.
        """
        self.path = path
        rows, torn = read_rows(path)
        self._keys: list[str] = list(dict.fromkeys(key for row in rows for key in row))
        if torn:
            self._rewrite(rows)

    def rows(self) -> list[Row]:
        """Every row, in the order of the steps."""
        return read_rows(self.path)[0]

    def append(self, row: Mapping[str, Any]) -> None:
        """Write one step's row to the end. A key that earlier rows lack is added to them as null."""
        new_keys = [key for key in row if key not in self._keys]
        if new_keys:
            earlier = self.rows()
            self._keys += new_keys
            if earlier:
                self._rewrite(earlier)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a", encoding="utf-8") as stream:
            stream.write(self._line(row))

    def truncate_after(self, step: int) -> None:
        """Remove the rows of later steps, so that a continued run does not write them twice."""
        rows = self.rows()
        kept = [row for row in rows if row["step"] <= step]
        if len(kept) < len(rows):
            self._rewrite(kept)
        if not kept:
            self._keys = []

    def _rewrite(self, rows: Iterable[Row]) -> None:
        replace_file(self.path, "".join(map(self._line, rows)))

    def _line(self, row: Mapping[str, Any]) -> str:
        return json.dumps({key: _json_value(row.get(key)) for key in self._keys}, allow_nan=False) + "\n"


class EvaluationFile:
    """evaluation.json: a list of `{"step", "dataset", "metrics", "prompts"}` by step; step 0 is the starting model."""

    def __init__(self, path: Path) -> None:
        """Read the file, or start it as an empty list.

        Raises:
            ValueError: the file does not hold such a list.
        """
        self.path = path
        self.entries: list[Row] = []
        if path.exists():
            self.entries = read_entries(path)
        else:
            self._write()

    def add(
        self,
        step: int,
        results: Mapping[str, Mapping[str, float]],
        prompts: Mapping[str, Mapping[str, str]] | None = None,
    ) -> None:
        """Add a step's scores of each data set. Earlier scores of the same step and data set are replaced.

        prompts: data set → role → the text that was put before its texts, written beside the scores if known.
        """
        self.entries = [e for e in self.entries if e["step"] != step or e["dataset"] not in results]
        for dataset, metrics in results.items():
            values = {name: _json_value(value) for name, value in metrics.items()}
            entry: Row = {"step": step, "dataset": dataset, "metrics": values}
            if prompts and dataset in prompts:
                entry["prompts"] = dict(prompts[dataset])
            self.entries.append(entry)
        self.entries.sort(key=lambda entry: entry["step"])
        self._write()

    def truncate_after(self, step: int) -> None:
        """Remove the scores of later steps."""
        kept = [entry for entry in self.entries if entry["step"] <= step]
        if len(kept) < len(self.entries):
            self.entries = kept
            self._write()

    def results(self, step: int) -> dict[str, dict[str, float]]:
        """The metrics of each data set at a step; empty if there was no evaluation."""
        return {entry["dataset"]: entry["metrics"] for entry in self.entries if entry["step"] == step}

    def _write(self) -> None:
        lines = ",\n".join(json.dumps(entry, ensure_ascii=False, allow_nan=False) for entry in self.entries)
        replace_file(self.path, f"[\n{lines}\n]\n" if lines else "[]\n")


def read_rows(path: Path) -> tuple[list[Row], bool]:
    """The complete rows of a metrics file, and whether the file ends with an incomplete line.

    Raises:
        ValueError: `PATH:LINE: ...` for a line other than the last that is no JSON object with a step.
    """
    if not path.exists():
        return [], False
    lines = path.read_bytes().split(b"\n")
    torn = lines.pop() != b""
    rows = []
    for number, line in enumerate(lines, 1):
        try:
            row = json.loads(line)
            row["step"] >= 0  # noqa: B015 (fails for a row whose step is missing or not a number)
            if not all(value is None or isinstance(value, int | float) for value in row.values()):
                raise ValueError("a value that is no number")
        except (ValueError, TypeError, KeyError):
            raise ValueError(
                f"{path}:{number}: got {line[:60].decode('utf-8', 'replace')!r}, expected a JSON object with a step; "
                "delete the line, or set checkpoint.resume: never"
            ) from None
        rows.append(row)
    return rows, torn


def read_entries(path: Path) -> list[Row]:
    """The list of an evaluation file.

    Raises:
        ValueError: the file holds something else.
    """
    try:
        entries = json.loads(path.read_text(encoding="utf-8"))
        is_valid = isinstance(entries, list) and all(map(_is_entry, entries))
    except (ValueError, RecursionError):
        is_valid = False
    if not is_valid:
        expected = '{"step", "dataset", "metrics"}'
        raise ValueError(f"{path}: got another content, expected a JSON list of {expected}; restore or delete it")
    return entries


def _is_entry(entry: Any) -> bool:
    """Whether it is scores of a data set after a step."""
    is_whole = isinstance(entry, dict) and entry.keys() >= {"step", "dataset", "metrics"}
    return (
        is_whole
        and type(entry["step"]) is int
        and isinstance(entry["dataset"], str)
        and isinstance(entry["metrics"], dict)
    )


def _json_value(value: Any) -> Any:
    """The value, or None for NaN and infinity, which JSON does not have."""
    return None if isinstance(value, float) and not math.isfinite(value) else value


def mean_rate(rows: Sequence[Row], count: str) -> float | None:
    """The sum of a column / the sum of the seconds, over all rows; None if no row has seconds."""
    seconds = sum(row["seconds"] for row in rows if row.get("seconds"))
    return sum(row.get(count) or 0 for row in rows) / seconds if seconds else None
