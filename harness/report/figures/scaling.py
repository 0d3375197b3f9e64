"""Draws how a recipe's memory and speed are predicted to grow; the assumptions stand in the picture."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import EngFormatter, LogLocator, NullFormatter

from harness.report.figures.curve import Curve
from harness.report.figures.drawing import GREY, Line, draw_line, figure, to_png

_COLUMNS_OF_TEXT = 82
_LINE_INCHES = 0.155


@dataclass(frozen=True, slots=True)
class LogPanel:
    """A pair of logarithmic axes: label → (x, y) points, None where not known. limit: a horizontal line, with words."""

    title: str
    x_label: str
    lines: Mapping[str, Sequence[tuple[float, float | None]]]
    limit: tuple[float, str] | None = None


def scaling_png(title: str, panels: Sequence[LogPanel], notes: Sequence[str]) -> bytes:
    """The panels, two in a row, with the notes below them, as a PNG file. A panel without a known point says so."""
    wrapped = [line for note in notes for line in textwrap.wrap(f"· {note}", _COLUMNS_OF_TEXT, subsequent_indent="  ")]
    rows = -(-len(panels) // 2)
    words = _LINE_INCHES * (len(wrapped) + 1)
    height = 0.5 + 2.3 * rows + words
    with figure(height=height) as drawn:
        grid = drawn.add_gridspec(rows + 1, 2, height_ratios=[*[2.3] * rows, words])
        labels = list(dict.fromkeys(label for panel in panels for label in panel.lines))  # one look for each line
        for i, panel in enumerate(panels):
            _draw(drawn.add_subplot(grid[i // 2, i % 2]), panel, labels)
        text = drawn.add_subplot(grid[rows, :])
        text.axis("off")
        text.text(0, 1, "Assumed:\n" + "\n".join(wrapped), va="top", fontsize=7, color="#222222")
        drawn.suptitle(title, x=0.02, ha="left", fontsize=10)
        return to_png(drawn)


def _draw(axes: Axes, panel: LogPanel, labels: Sequence[str]) -> None:
    known = {label: [(x, y) for x, y in points if y is not None and y > 0] for label, points in panel.lines.items()}
    axes.set_title(panel.title, loc="left", fontsize=9)
    axes.set_xlabel(panel.x_label, fontsize=9)
    if not any(known.values()):
        axes.text(0.5, 0.5, "not known:\na rate is missing", transform=axes.transAxes, ha="center", color=GREY)
        axes.set_xticks([])
        axes.set_yticks([])
        return
    for label, points in known.items():
        x_P, y_P = (np.array(values, dtype=np.float64) for values in zip(*points, strict=True)) if points else ([], [])
        none_P = np.full(len(points), np.nan)
        draw_line(axes, Line(label, Curve(np.asarray(x_P), np.asarray(y_P), none_P, none_P), labels.index(label)))
    axes.set_xscale("log")
    axes.set_yscale("log")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(EngFormatter(sep=""))
    if panel.limit is not None:
        height, label = panel.limit
        axes.axhline(height, color=GREY, linestyle=":", label=label)
    low, high = axes.get_ylim()
    few_decades = high / low < 100
    axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0) if few_decades else (1.0,)))
    axes.yaxis.set_minor_formatter(NullFormatter())
    axes.tick_params(labelsize=8, which="both")
