"""Draws how many seconds of a step each phase takes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes

from harness.report.figures.curve import bin_width
from harness.report.figures.drawing import (
    BLUE,
    GREEN,
    GREY,
    ORANGE,
    PURPLE,
    SKY,
    VERMILION,
    Picture,
    figure,
    short,
    tidy,
    to_png,
)
from harness.report.history import Group, RunHistory

# In the order of a step. The hatching tells phases apart without colour; only the first and the last have none.
_PHASES = {
    "data": (SKY, ""),
    "embed": (BLUE, "//"),
    "score": (ORANGE, ".."),
    "replay": (GREEN, "\\\\"),
    "step": (PURPLE, "xx"),
    "mining": (VERMILION, "--"),
    "other": (GREY, ""),
}
_NAME, _TITLE = "phases", "Where a step's time goes"
_COMMUNICATION = "communication (in these)"
_CAPTION = (
    "Seconds of rank 0 per step. data: waiting for the plan and its tokens; score: gathering embeddings, losses and "
    "their gradient; step: ZeRO's optimizer step; mining: watching, replacing and re-ranking negatives. Communication "
    "is a part of these: the time in collectives, waiting for other ranks included, but not ZeRO's own in embed, "
    "replay and step."
)


def phases(groups: Sequence[Group]) -> Picture:
    """A single run: stacked areas over its steps. Several runs: a bar per group, with means over all steps."""
    seconds = {group.label: mean_seconds(group) for group in groups}
    recorded = [group for group in groups if seconds[group.label]]
    if not recorded:
        return Picture(_NAME, _TITLE, _CAPTION, f"{_TITLE}: not recorded.", None)
    with figure(height=3.4 if len(recorded) == 1 else 1.6 + 0.55 * len(recorded)) as drawn:
        axes = drawn.add_subplot()
        if len(recorded) == len(recorded[0].runs) == 1 < len(recorded[0].runs[0].step_P):
            _areas(axes, recorded[0].runs[0])
        else:
            _bars(axes, {group.label: seconds[group.label] for group in recorded})
        png = to_png(drawn)
    words = [
        f"{group.label}: " + ", ".join(f"{name} {value:.3g}" for name, value in seconds[group.label].items()) + "."
        for group in recorded
    ]
    return Picture(_NAME, _TITLE, _CAPTION, f"{_TITLE}: mean seconds per step. {' '.join(words)}", png)


def mean_seconds(group: Group) -> dict[str, float]:
    """Phase → mean seconds per step over all steps and runs, `communication` last; empty if none was recorded."""
    seconds = [_seconds(run) for run in group.runs]
    if not sum(len(run["embed"]) for run in seconds):
        return {}
    return {name: float(np.concatenate([run[name] for run in seconds]).mean()) for name in seconds[0] if name != "at"}


def _seconds(run: RunHistory) -> dict[str, np.ndarray]:
    """Phase → seconds at the steps that recorded phases; key `at` → these steps. A phase that a step lacks has 0 s."""
    is_recorded_P = np.isfinite(run.column("seconds/embed"))
    seconds = {
        name: np.nan_to_num(run.column(f"seconds/{name}")[is_recorded_P]) for name in (*_PHASES, "communication")
    }
    seconds["other"] = np.maximum(0, run.column("seconds")[is_recorded_P] - sum(seconds[name] for name in _PHASES))
    return {**seconds, "at": run.step_P[is_recorded_P]}


def _areas(axes: Axes, run: RunHistory) -> None:
    """Draw the phases stacked over the steps, averaged in bins."""
    seconds = _seconds(run)
    bin_P = (seconds["at"] - 1) // bin_width(int(run.step_P[-1]))
    _, first_B, size_B = np.unique(bin_P, return_index=True, return_counts=True)
    mean = {name: np.add.reduceat(value_P, first_B) / size_B for name, value_P in seconds.items()}
    stack = [mean[name] for name in _PHASES]
    areas = axes.stackplot(
        mean["at"], stack, colors=[c for c, _ in _PHASES.values()], labels=list(_PHASES), linewidth=0.4
    )
    for area, (_, hatch) in zip(areas, _PHASES.values(), strict=True):
        area.set(hatch=hatch, edgecolor="white")
    axes.plot(mean["at"], mean["communication"], color="black", linestyle="--", linewidth=1.2, label=_COMMUNICATION)
    axes.set(xlabel="step", ylabel="seconds per step", ylim=(0, None))
    tidy(axes)


def _bars(axes: Axes, seconds: dict[str, dict[str, float]]) -> None:
    """Draw a bar for each group, its phases one after the other, and a diamond at the seconds of communication."""
    place = np.arange(len(seconds))[::-1]
    left = np.zeros(len(seconds))
    for name, (colour, hatch) in _PHASES.items():
        width = np.array([row[name] for row in seconds.values()])
        axes.barh(place, width, 0.6, left, color=colour, hatch=hatch, edgecolor="white", linewidth=0.4, label=name)
        left += width
    communication = [row["communication"] for row in seconds.values()]
    axes.plot(communication, place, "D", color="black", markeredgecolor="white", label=_COMMUNICATION)
    axes.set_yticks(place, [short(label) for label in seconds])
    axes.set_xlabel("seconds per step, mean")
    axes.grid(axis="y", visible=False)
