"""What another form of a model (bf16, ONNX, int8) changes: differences of vectors, and scores where data is at hand."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from harness.export.markdown import plain, table

Scores = Mapping[str, tuple[float | None, float | None]]  # DATASET/METRIC → (of fp32, of this form); None: not defined


@dataclass(frozen=True, slots=True)
class Difference:
    """How far vectors of length 1 moved: the largest change of a number, the lowest cosine of old and new vector."""

    largest: float
    lowest_cosine: float

    @classmethod
    def of(cls, before_BD: np.ndarray, after_BD: np.ndarray) -> Difference:
        """Of the vectors of the same texts; their lengths do not count."""
        before, after = (_unit(row_BD.astype(np.float64)) for row_BD in (before_BD, after_BD))
        return cls(float(np.abs(before - after).max()), float((before * after).sum(1).min()))


@dataclass(frozen=True, slots=True)
class FormReport:
    """One form: where it lies in the folder, its numbers, its size on disk, and what it changes.

    scores: None: no data was given.
    """

    file: str
    numbers: str
    num_bytes: int
    difference: Difference
    scores: Scores | None = None

    def facts(self) -> dict[str, Any]:
        """As JSON: `scores` is null without data, a score that is not defined is null."""
        scores: dict[str, Any] | None = None
        if self.scores is not None:
            scores = {n: {"before": b, "after": a, "loss": _loss(b, a)} for n, (b, a) in self.scores.items()}
        return {
            "file": self.file,
            "numbers": self.numbers,
            "bytes": self.num_bytes,
            "largest_difference": self.difference.largest,
            "lowest_cosine": self.difference.lowest_cosine,
            "scores": scores,
        }

    def line(self) -> str:
        """What is changed, in a line."""
        vectors = f"vectors within {self.difference.largest:.1e}, cosine at least {self.difference.lowest_cosine:.6f}"
        scores = [
            f"; {name} {_number(before)} → {_number(after)} (loss {_number(_loss(before, after))})"
            for name, (before, after) in (self.scores or {}).items()
        ]
        return f"{self.file}: {self.numbers}, {self.num_bytes / 1e6:,.1f} MB: {vectors}{''.join(scores)}"

    def rows(self) -> list[tuple[str, ...]]:
        """The lines of a table: one per score, or one without."""
        first = (
            self.file,
            self.numbers,
            f"{self.num_bytes / 1e6:,.1f} MB",
            f"{self.difference.largest:.1e}",
            f"{self.difference.lowest_cosine:.6f}",
        )
        scores = self.scores or {}
        cells = [(name, *(map(_number, (b, a, _loss(b, a))))) for name, (b, a) in scores.items()]
        return [
            (*first, *(cells[0] if cells else ("", "", "", ""))),
            *(("", "", "", "", "", *row) for row in cells[1:]),
        ]


COLUMNS = ("file", "numbers", "size", "largest difference", "lowest cosine", "score", "fp32", "here", "loss")


def forms_section(reports: list[FormReport]) -> str:
    """The section of the model card; empty without reports."""
    if not reports:
        return ""
    rows = [tuple(plain(cell) for cell in row) for report in reports for row in report.rows()]
    words = "Each form against the fp32 weights: vectors of length 1 of sample texts"
    words += ", and scores of the data named here.\n" if any(report.scores for report in reports) else ".\n"
    return "\n".join(["## Forms of the weights\n", words, table(COLUMNS, rows)])


def _loss(before: float | None, after: float | None) -> float | None:
    return None if before is None or after is None else before - after


def _number(value: float | None) -> str:
    return "—" if value is None else f"{value:.4f}"


def _unit(row_BD: np.ndarray) -> np.ndarray:
    return row_BD / np.maximum(np.linalg.norm(row_BD, axis=1, keepdims=True), 1e-12)
