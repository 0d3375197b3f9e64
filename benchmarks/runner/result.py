"""Means with their spread over seeds, and Markdown tables of them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def mean_and_spread(values: Sequence[float]) -> tuple[float | None, float | None]:
    """Mean and standard deviation of a sample; no value has neither, one has no spread."""
    mean = float(np.mean(values)) if values else None
    return mean, float(np.std(values, ddof=1)) if len(values) > 1 else None


def in_figures(mean: float | None, spread: float | None, *, digits: int = 4, sign: str = "") -> str:
    """`0.1234 ± 0.0012`; without a spread the mean, empty without a mean. sign: `+` writes it for positive means."""
    if mean is None:
        return ""
    return f"{mean:{sign}.{digits}f}" + ("" if spread is None else f" ± {spread:.{digits}f}")


def seeds_label(arm: str, count: int) -> str:
    """`arm, 3 seeds`."""
    return f"{arm}, {count} seed{'s' if count > 1 else ''}"


def markdown_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table whose first column is text and the others numbers."""
    lines = [head, ["---"] + ["---:"] * (len(head) - 1), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
