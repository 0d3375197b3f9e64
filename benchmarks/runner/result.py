"""Means and standard deviations over seeds, and Markdown tables that show them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def mean_and_spread(values: Sequence[float]) -> tuple[float | None, float | None]:
    """Mean and sample standard deviation. Both are None without a value; the deviation is None with a single value."""
    mean = float(np.mean(values)) if values else None
    return mean, float(np.std(values, ddof=1)) if len(values) > 1 else None


def in_figures(mean: float | None, spread: float | None, *, digits: int = 4, sign: str = "") -> str:
    """Format as `0.1234 ± 0.0012`, or `0.1234` if spread is None, or an empty string if mean is None.

    sign: `+` writes a plus sign before positive means.
    """
    if mean is None:
        return ""
    return f"{mean:{sign}.{digits}f}" + ("" if spread is None else f" ± {spread:.{digits}f}")


def seeds_label(arm: str, count: int) -> str:
    """`arm, 3 seeds`."""
    return f"{arm}, {count} seed{'s' if count > 1 else ''}"


def markdown_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Format a Markdown table. The first column is aligned left, all other columns are aligned right."""
    lines = [head, ["---"] + ["---:"] * (len(head) - 1), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
