"""Draws the mean similarity of the negatives in use, and when they were replaced (figure 2 of arXiv 2408.15710)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import cycle
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from harness.report.figures.curve import MAX_MARKS, Curve, counts, curve
from harness.report.figures.drawing import (
    GREY,
    Line,
    Panel,
    Picture,
    draw_panel,
    figure,
    in_words,
    look_of,
    tidy,
    to_png,
)
from harness.report.history import Group, RuleThresholds, RunHistory

_NAME, _TITLE = "negatives", "Negatives: scores and replacements"
_FLOOR = "negative_floor/"
_WATCHED, _START = "negative_similarity_watched", "negative_similarity_start"


def negatives(groups: Sequence[Group]) -> Picture:
    """S over the steps, with a mark at each replacement, and S0 and the rule's thresholds.

    Each group whose negatives are replaced has its own panel. Every panel also shows all groups whose negatives are
    never replaced. All panels have the same axes.
    """
    panels = [(panel, group) for panel, group in _panels(groups) if any(len(line.curve) for line in panel.lines)]
    if not panels:
        return Picture(_NAME, _TITLE, "", f"{_TITLE}: not recorded.", None)
    heights = [height for _, group in panels for height in ([2.4, 0.9] if group and group.rule else [2.6])]
    words, outside = [], []
    with figure(height=sum(heights) + 0.9) as drawn:
        rows = iter(drawn.add_gridspec(len(heights), 1, height_ratios=heights))
        top: Axes | None = None
        dynamic = []
        for panel, group in panels:
            axes = drawn.add_subplot(next(rows), sharex=top, sharey=top)
            top = top or axes
            draw_panel(axes, panel)
            words.append(in_words(panel))
            mark_rerankings(axes, groups if group is None else [group])
            if group is not None and group.rule is not None:
                strip = drawn.add_subplot(next(rows), sharex=axes)
                words.append(draw_replacements(axes, strip, group, look_of(groups.index(group))["color"]))
                dynamic.append((axes, group.rule))
        for axes, rule in dynamic:  # after all curves, because they decide the range of the axes
            outside += draw_fixed_thresholds(axes, rule)
        png = to_png(drawn)
    return Picture(_NAME, _TITLE, " ".join([_CAPTION, *dict.fromkeys(outside)]), " ".join([_TITLE + ".", *words]), png)


_CAPTION = (
    "S: mean cosine of queries to their ranked negatives (those of retrieval tasks). S0: that of the same ones when "
    "they came into use. The rule judges every query or negative by itself, so some are replaced while the mean is "
    "above the dashed line. A mark stands at each step with replacements and grows with their number, which the bars "
    f"below it say (of more than {MAX_MARKS} such steps, those of a bin together; black: replaced as too hard)."
)


def mark_rerankings(axes: Axes, groups: Sequence[Group]) -> None:
    """Draw a line at each step after which candidates were ranked anew."""
    for group in groups:
        for step in counts(group.runs, "queries_reranked")[0]:
            axes.axvline(step, color=GREY, linewidth=0.8, linestyle=(0, (1, 3)), label="candidates ranked anew")


def draw_replacements(axes: Axes, strip: Axes, group: Group, colour: str) -> str:
    """Mark the steps with replacements on the group's line, and draw the numbers of replacements as bars in `strip`.

    A mark's area grows with the number of negatives replaced. Returns a description in words.
    """
    step_P, count_P = counts(group.runs, "negatives_replaced")
    exhausted_P, exhausted_count_P = counts(group.runs, "negatives_exhausted")
    line, x_limits = _similarity(group), axes.get_xlim()
    if len(step_P):
        height_P = np.interp(step_P, line.x_P, line.mean_P)
        area_P = (8 + 40 * count_P / count_P.max()) * min(1.0, 60 / len(step_P))  # many marks must not hide the line
        look: dict[str, Any] = {"marker": "v", "facecolor": "white", "edgecolor": colour, "linewidth": 0.8, "zorder": 3}
        axes.scatter(step_P, height_P, area_P, label="replaced", **look)
        strip.vlines(step_P, 0, count_P, color=colour, linewidth=1.4)
    too_hard = _draw_too_hard(strip, group)
    if len(exhausted_P):
        strip.scatter(
            exhausted_P,
            exhausted_count_P,
            14,
            marker="x",
            color=GREY,
            label="to be replaced, without a successor",
        )
    axes.set_xlim(x_limits)  # otherwise a single bar would take the whole width
    axes.set_xlabel("")
    axes.tick_params(labelbottom=False)
    strip.set_ylim(0, max(1.0, strip.get_ylim()[1]))
    strip.set_xlabel("step")
    strip.set_ylabel("replaced")
    tidy(strip)
    strip.yaxis.set_major_locator(MaxNLocator(3, integer=True))
    if not len(step_P):
        return f"{group.label}: no negative was replaced."
    return (
        f"{group.label}: {count_P.sum():,.0f} negatives replaced at {len(step_P)} steps, the first at {step_P[0]}, the "
        f"last at {step_P[-1]}{too_hard}."
    )


def _draw_too_hard(strip: Axes, group: Group) -> str:
    """Draw the numbers of negatives replaced as too hard over those of all replaced ones. Returns words for them."""
    step_P, count_P = counts(group.runs, "negatives_too_hard")
    if not len(step_P):
        return ""
    strip.vlines(step_P, 0, count_P, color="black", linewidth=1.4, label="of these: too hard")
    return f"; {count_P.sum():,.0f} of them were too hard, likely unlabelled positives"


def _similarity(group: Group) -> Curve:
    """S: the mean over ranked negatives. For runs that did not record it: the mean over all tasks' queries."""
    if all(_WATCHED in run.columns for run in group.runs):
        return curve([_without_zeros(run, _WATCHED) for run in group.runs], _WATCHED)
    return curve(group.runs, "negative_similarity")


def draw_fixed_thresholds(axes: Axes, rule: RuleThresholds) -> list[str]:
    """Draw the rule's fixed thresholds that lie near the curves. Returns a sentence for each of the others."""
    low, high = axes.get_ylim()
    margin = 0.3 * (high - low)
    outside = []
    for (words, value), dashes in zip(rule.fixed_thresholds().items(), cycle(("-.", ":")), strict=False):
        if low - margin <= value <= high + margin:
            axes.axhline(value, color="black", linewidth=1, linestyle=dashes, label=words)
        else:
            outside.append(f"Outside the picture: {words}.")
    return outside


def _panels(groups: Sequence[Group]) -> list[tuple[Panel, Group | None]]:
    """One panel for each group whose negatives are replaced; if there is no such group, one panel for all groups."""
    lines = [
        Line("S" if len(groups) == 1 else f"S, {group.label}", _similarity(group), position)
        for position, group in enumerate(groups)
    ]
    static = [line for line, group in zip(lines, groups, strict=True) if group.rule is None]
    dynamic = [(line, group) for line, group in zip(lines, groups, strict=True) if group.rule is not None]
    if not dynamic:
        return [(Panel("mean similarity", static), None)]
    titles = [f"mean similarity, {group.label}" if len(dynamic) > 1 else "mean similarity" for _, group in dynamic]
    return [
        (Panel(title, [*static, line, *_starts(group)]), group)
        for title, (line, group) in zip(titles, dynamic, strict=True)
    ]


def _starts(group: Group) -> list[Line]:
    """S0, and the rule's thresholds that depend on it."""
    assert group.rule is not None
    start = curve([_without_zeros(run, _START) for run in group.runs], _START)
    start = Curve(start.x_P, start.mean_P, np.full(len(start), np.nan), np.full(len(start), np.nan))
    thresholds = group.rule.moving_thresholds(start.mean_P)
    lines = [Line(words, replace(start, mean_P=mean_P), None, "--") for words, mean_P in thresholds.items()]
    return [Line("S0", start, None, "-"), *lines, *_measured_floors(group)]


def _measured_floors(group: Group) -> list[Line]:
    """The floors that `mining.floor: auto` has found, one per task."""
    names = dict.fromkeys(name for run in group.runs for name in run.columns if name.startswith(_FLOOR))
    floors = {name: curve(group.runs, name) for name in names}
    return [
        Line(f"floor of {name.removeprefix(_FLOOR)}, auto", floor, None, ":")
        for name, floor in floors.items()
        if len(floor)
    ]


def _without_zeros(run: RunHistory, name: str) -> RunHistory:
    """The run with NaN instead of 0 in a column: earlier versions wrote 0 for a step without a ranked negative."""
    value_P = run.column(name)
    return replace(run, columns={**run.columns, name: np.where(value_P == 0, np.nan, value_P)})
