"""Panels: an axis does not make much of little. Lines: a band stays where the page says that there is one."""

from __future__ import annotations

from matplotlib.figure import Figure

from harness.report.figures.curve import curve_of_points
from harness.report.figures.drawing import Line, Panel, draw_line, draw_panel


def y_limits(values: list[float], least_height: float) -> tuple[float, float]:
    axes = Figure().add_subplot()
    line = Line("run", curve_of_points([{float(step): value for step, value in enumerate(values)}]), 0)
    draw_panel(axes, Panel("accuracy", [line], least_height=least_height))
    return axes.get_ylim()


def test_a_difference_of_no_importance_fills_no_panel() -> None:
    """The demo's accuracy went from 0.4922 to 0.4917, and the line fell through the whole panel."""
    low, high = y_limits([0.4922, 0.4917], 0.02)
    assert round(high - low, 9) == 0.02
    assert round((low + high) / 2, 9) == 0.49195


def test_a_larger_difference_is_drawn_as_before() -> None:
    assert y_limits([0.3, 0.8], 0.02) == y_limits([0.3, 0.8], 0.0)


def test_a_noisy_line_of_several_seeds_keeps_its_band() -> None:
    """The page says that a band is the spread over the seeds; the loss had none, because its smoothed line has none."""
    axes = Figure().add_subplot()
    seeds = [{float(step): step % 3 + offset for step in range(20)} for offset in (0.0, 1.0, 2.0)]
    draw_line(axes, Line("loss", curve_of_points(seeds), 0, is_noisy=True))
    assert len(axes.lines) == 2  # raw and smoothed
    (band,) = axes.collections
    low, high = band.get_datalim(axes.transData).intervaly
    assert (low, high) == (0.0, 4.0)
