"""Draws lines in panels as a PNG, and describes them in a text for people who cannot see the figure.

Lines can be told apart without colour: each has its own colour (from Okabe and Ito's palette, safe for colour-blind
people), dash pattern and marker. Legends stand below the panels, never over a line.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, MaxNLocator, StrMethodFormatter
from rich.cells import cell_len, set_cell_size

from harness.report.figures.curve import Curve, smoothed
from harness.report.figures.fonts import families, missing_characters_named_once

BLUE, VERMILION, GREEN, PURPLE, ORANGE, SKY = "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9"
GREY = "#666666"
_COLOURS = (BLUE, VERMILION, GREEN, PURPLE, ORANGE, SKY, "#000000")
_DASHES = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)))
_MARKERS = ("o", "s", "^", "D", "v", "P", "X")
_MARKERS_PER_LINE = 6
_SPOKEN_LINES = 12  # how many lines of a panel an alternative text describes
_LABEL = 34  # the longest label in a legend, in Latin characters; a Chinese one is as wide as two

WIDTH = 4.8  # inches: with 10 point text still readable when a phone shrinks it
STYLE: Any = {  # matplotlib lists every key it allows as a type
    "font.size": 10,
    "axes.titlesize": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#dddddd",
    "grid.linewidth": 0.6,
    "lines.linewidth": 1.6,
    "lines.markersize": 4.5,
    "legend.frameon": False,
    "legend.fontsize": 9,
    "hatch.linewidth": 0.6,
    "savefig.dpi": 200,
}


@dataclass(frozen=True, slots=True)
class Line:
    """A curve to draw. `position` among the page's groups decides its look; None: grey, with `dashes`.

    is_noisy: its values are drawn faint, and their smoothed line on top.
    """

    label: str
    curve: Curve
    position: int | None
    dashes: str = ":"
    is_noisy: bool = False


@dataclass(frozen=True, slots=True)
class Panel:
    """One pair of axes. `y_label` is empty if the title says it.

    least_height: of the values that the axis spans, so that a difference of no importance fills no panel.
    """

    title: str
    lines: Sequence[Line]
    x_label: str = "step"
    y_label: str = ""
    least_height: float = 0.0


@dataclass(frozen=True, slots=True)
class Picture:
    """A figure of the page and figures/NAME.png. `png` is None if no run has recorded its data."""

    name: str
    title: str
    caption: str
    alt: str
    png: bytes | None


def line_picture(name: str, title: str, caption: str, panels: Sequence[Panel]) -> Picture:
    """Panels of lines, two in a row if there are several; panels without a point are left out."""
    shown = [panel for panel in panels if any(len(line.curve) for line in panel.lines)]
    if not shown:
        return Picture(name, title, caption, f"{title}: not recorded.", None)
    columns = min(len(shown), 2)
    rows = -(-len(shown) // columns)
    with figure(height=0.6 + (2.4 if columns == 1 else 1.75) * rows) as drawn:
        for i, panel in enumerate(shown):
            draw_panel(drawn.add_subplot(rows, columns, i + 1), panel)
        png = to_png(drawn)
    return Picture(name, title, caption, f"{title}. {' '.join(map(in_words, shown))}", png)


@contextmanager
def figure(height: float) -> Iterator[Figure]:
    """An empty figure, `height` inches high. Draw it and call `to_png` inside this context, which sets the style."""
    # Of the names in `font.family` all are tried for a character, of those in `font.sans-serif` the first that exists.
    with mpl.rc_context({**STYLE, "font.family": families()}):
        yield Figure(figsize=(WIDTH, height), layout="constrained")


def to_png(drawn: Figure) -> bytes:
    """The figure as a PNG file, its legend below the panels."""
    _legend(drawn)
    stream = io.BytesIO()
    with missing_characters_named_once():
        drawn.savefig(stream, format="png")
    return stream.getvalue()


def draw_panel(axes: Axes, panel: Panel) -> None:
    """Draw all lines of a panel, with bands, labels and few ticks."""
    for line in panel.lines:
        draw_line(axes, line)
    axes.set_title(panel.title, loc="left")
    axes.set_xlabel(panel.x_label)
    axes.set_ylabel(panel.y_label)
    low, high = axes.get_ylim()
    missing = max(0.0, panel.least_height - (high - low))
    axes.set_ylim(low - missing / 2, high + missing / 2)
    tidy(axes)


def tidy(axes: Axes) -> None:
    """Set few ticks, at whole steps, and write 20,000 as `20k`."""
    axes.margins(x=0.03)
    left, right = axes.dataLim.intervalx
    if left == right:  # a single step
        axes.set_xlim(left - 1, right + 1)
    axes.xaxis.set_major_locator(MaxNLocator(4, integer=True))
    axes.yaxis.set_major_locator(MaxNLocator(5))
    for axis, highest in ((axes.xaxis, axes.get_xlim()[1]), (axes.yaxis, axes.get_ylim()[1])):
        if highest >= 10_000:
            axis.set_major_formatter(EngFormatter(sep=""))
        elif highest >= 1_000:
            axis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))


def draw_line(axes: Axes, line: Line) -> None:
    """Draw a line, its band if it has one, and a few markers (one per point if the line is short)."""
    curve, look = line.curve, look_of(line.position) if line.position is not None else _quiet(line)
    if line.is_noisy and len(trend := smoothed(curve)):
        axes.plot(curve.x_P, curve.mean_P, color=look["color"], linewidth=0.6, alpha=0.35)
        curve = trend
    every = max(1, -(-len(curve) // _MARKERS_PER_LINE))
    first = (line.position or 0) * every // 3 % every  # so that equal lines do not hide each other's markers
    axes.plot(curve.x_P, curve.mean_P, label=short(line.label), markevery=(first, every), **look)
    band = line.curve  # a smoothed line has none of its own
    if np.isfinite(band.low_P).any():
        axes.fill_between(band.x_P, band.low_P, band.high_P, color=look["color"], alpha=0.15, linewidth=0)


def look_of(position: int) -> dict[str, Any]:
    """Colour, dashes and marker of the group at a position, as matplotlib's arguments."""
    return {
        "color": _COLOURS[position % len(_COLOURS)],
        "linestyle": _DASHES[position % len(_DASHES)],
        "marker": _MARKERS[position % len(_MARKERS)],
    }


def _quiet(line: Line) -> dict[str, Any]:
    return {"color": GREY, "linestyle": line.dashes, "marker": "_" if len(line.curve) == 1 else ""}


def _legend(drawn: Figure) -> None:
    """Draw one legend for all panels, below them; none if there is only one line."""
    entries: dict[str, Artist] = {}
    for axes in drawn.axes:
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True):
            entries.setdefault(label, handle)
    if len(entries) > 1:
        columns = 2 if max(map(cell_len, entries)) <= 24 else 1
        drawn.legend(list(entries.values()), list(entries), loc="outside lower center", ncols=columns, handlelength=3)


def in_words(panel: Panel) -> str:
    """The description of a panel's lines, for people who cannot see the figure."""
    drawn = [line for line in panel.lines if len(line.curve)]
    words = [f"{panel.title}, over {panel.x_label}:"]
    for line in drawn[:_SPOKEN_LINES]:
        x_P, y_P = line.curve.x_P, line.curve.mean_P
        words.append(
            f"{line.label} from {y_P[0]:.4g} at {x_P[0]:g} to {y_P[-1]:.4g} at {x_P[-1]:g}, between {y_P.min():.4g} "
            f"and {y_P.max():.4g};"
        )
    more = f" and {len(drawn) - _SPOKEN_LINES} more lines." if len(drawn) > _SPOKEN_LINES else ""
    return " ".join(words).rstrip(";") + (more or ".")


def short(label: str) -> str:
    """The label, cut in the middle if it is too long for a legend."""
    if cell_len(label) <= _LABEL:
        return label
    return f"{set_cell_size(label, _LABEL // 2 - 1)}…{set_cell_size(label[::-1], _LABEL // 2)[::-1]}"
