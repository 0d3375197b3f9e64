"""Figures of `benchmarks.evidence`: the in-batch curve, scores over the steps, and the negatives' similarities."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from benchmarks.evidence.arms import MIXTURE, NEGATIVES
from benchmarks.evidence.plan import FLAT, flat_step
from benchmarks.evidence.results import Trained
from harness.report.figures.curve import Curve, curve, curve_of_points
from harness.report.figures.drawing import Line, Panel, Picture, line_picture
from harness.report.history import RunHistory

_REFERENCE = "static"


def draw(
    folder: Path,
    curve_run: Trained | None,
    runs_of_arm: Mapping[str, Sequence[Trained]],
    histories_of_arm: Mapping[str, Sequence[RunHistory]],
) -> list[Path]:
    """Write every figure that has data into `folder`, and return the files."""
    pictures = [*evaluations(runs_of_arm), negatives(histories_of_arm)]
    if curve_run is not None:
        pictures.insert(0, in_batch_curve(curve_run))
    files = []
    for picture in pictures:
        if picture.png is not None:
            file = folder / f"{picture.name}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(picture.png)
            files.append(file)
    return files


def in_batch_curve(trained: Trained) -> Picture:
    """The development score of in-batch training over the steps, at a constant learning rate."""
    points = {float(step): trained.dev_score(step) for step in trained.dev}
    flat = flat_step({int(step): score for step, score in points.items() if step})
    lines = [Line("in-batch negatives", curve_of_points([points]), 0)]
    if flat is not None:
        lines.append(
            Line(f"no gain above {FLAT:g} after step {flat}", _vertical(flat, list(points.values())), None, "--")
        )
    panel = Panel("development nDCG@10", lines)
    return line_picture("curve", "In-batch negatives only, constant learning rate", "", [panel])


def evaluations(runs_of_arm: Mapping[str, Sequence[Trained]]) -> list[Picture]:
    """The mean development score of every arm over the steps, means over the seeds; of mixtures over the share of the
    run, because their arms differ in steps.

    The starting model's score stands in the title: drawn, it would leave no height for what the arms differ in.
    """
    reranked = [arm for arm, settings in NEGATIVES.items() if settings.reranked]
    fixed = {arm: settings for arm, settings in NEGATIVES.items() if settings.bank and arm not in reranked}
    shown = {  # → the arms to compare with, and those that only this picture has
        "unfiltered": (["in_batch"], [arm for arm, settings in fixed.items() if settings.bank == "start"]),
        "filtered": (["in_batch", "static"], [arm for arm, settings in fixed.items() if settings.bank != "start"]),
        "reranked": (["in_batch", "in_batch_as_static"], reranked),
        "mixture": ([], list(MIXTURE)),
    }
    return [
        line_picture(
            name, f"Development scores over the run, {name}", "", [_evaluations([*others, *arms], runs_of_arm)]
        )
        for name, (others, arms) in shown.items()
        if any(runs_of_arm.get(arm) for arm in arms)
    ]


def _evaluations(arms: Sequence[str], runs_of_arm: Mapping[str, Sequence[Trained]]) -> Panel:
    is_mixture = arms[0] in MIXTURE
    lines, spreads = [], []
    start = [trained.dev_score(0) for arm in arms for trained in runs_of_arm.get(arm, ())]
    for position, arm in enumerate(arms):
        points = [
            {100 * s / trained.steps if is_mixture else s: trained.dev_score(s) for s in trained.dev if s}
            for trained in runs_of_arm.get(arm, ())
        ]
        if points:
            lines.append(Line(arm, _without_band(curve_of_points(points)), position))
        if len(points) > 1:
            spreads.append(np.mean([np.std([of_run[x] for of_run in points], ddof=1) for x in points[0]]))
    title = "mean development score" if is_mixture else "development nDCG@10"
    # Bands of many arms would hide each other, but without a word on the seeds their noise looks like differences.
    x_label = "percent of the run" if is_mixture else "step"
    x_label += f" (scores of different seeds: ± {np.mean(spreads):.3f})" if spreads else ""
    return Panel(f"{title} (starting model: {np.mean(start):.3f})", lines, x_label=x_label)


def negatives(histories_of_arm: Mapping[str, Sequence[RunHistory]]) -> Picture:
    """S and S0 of every arm's own negatives over the steps, beside S of static ones."""
    static, panels = histories_of_arm.get(_REFERENCE, ()), []
    for arm in (arm for arm, settings in NEGATIVES.items() if settings.bank is not None):
        runs = histories_of_arm.get(arm, ())
        if not runs:
            continue
        lines = [
            Line("S, at their last use", curve(runs, "negative_similarity_watched"), 1),
            Line("S0, at their first use", _without_band(curve(runs, "negative_similarity_start")), None, "--"),
        ]
        if static and arm != _REFERENCE:
            lines.insert(
                0, Line("S of fixed negatives (static)", _without_band(curve(static, "negative_similarity_watched")), 0)
            )
        panels.append(Panel(arm, lines, y_label="cosine"))
    return line_picture("negatives", "Similarity of queries to their own negatives", "", panels)


def _without_band(line: Curve) -> Curve:
    return Curve(line.x_P, line.mean_P, np.full(len(line), np.nan), np.full(len(line), np.nan))


def _vertical(x: float, heights: Sequence[float]) -> Curve:
    """A vertical line over the range of `heights`."""
    return Curve(np.array([x, x]), np.array([min(heights), max(heights)]), np.full(2, np.nan), np.full(2, np.nan))
