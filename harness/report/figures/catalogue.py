"""The figures of report.html, in the order of the page. Each function takes the groups of runs to draw side by side."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from harness.export.formats.sizes import is_quantised
from harness.loss_table import LOSSES
from harness.report.figures.curve import Curve, curve, curve_of_points
from harness.report.figures.drawing import Line, Panel, Picture, line_picture
from harness.report.figures.negatives import negatives
from harness.report.figures.phases import phases
from harness.report.history import Group, RunHistory, main_metrics

_GIB = 2**30
_LEAST_OF_SCORES = 0.02  # two points: a smaller difference of scores is drawn as the small one that it is


def loss(groups: Sequence[Group]) -> Picture:
    """The loss of the step, and the loss of every task, each as the mean over the sizes that are trained."""
    names = dict.fromkeys(key for group in groups for run in group.runs for key in run.columns if key[:5] == "loss/")
    panels = [_loss_panel("loss of the step", groups, "loss")]
    panels += [_loss_panel(f"task {name[5:]}", groups, name) for name in names]
    caption = (
        "The step's loss (all tasks, weighted) and each task's own, unweighted: each step (faint), and "
        "the mean of neighbouring steps."
    )
    if any(_sum_of_levels(group) != 1 for group in groups):
        caption += (
            " With Matryoshka sizes the step trains, and metrics.jsonl records, the sum over them; drawn is the mean."
        )
        whole = sorted({name for group in groups for name in _losses(group) if not LOSSES[name].has_levels})
        if whole:
            caption += f" Where a loss has no sizes ({', '.join(whole)}), the sum is drawn as it is."
    return line_picture("loss", "Loss", caption, panels)


def evaluation(groups: Sequence[Group]) -> Picture:
    """Each data set's main metric over the steps, from the starting model on."""
    panels = []
    for dataset, metric in main_metrics(groups).items():
        lines = []
        for position, group in enumerate(groups):
            points = [
                {
                    float(entry["step"]): _value(entry["metrics"].get(metric))
                    for entry in run.evaluations
                    if entry["dataset"] == dataset
                }
                for run in group.runs
            ]
            lines.append(Line(group.label, curve_of_points(points), position))
        panels.append(Panel(f"{dataset}\n{metric}", [*_starts(lines), *lines], least_height=_LEAST_OF_SCORES))
    caption = "Held-out scores over the steps. Dotted: the starting model."
    return line_picture("evaluation", "Evaluation", caption, panels)


def matryoshka(groups: Sequence[Group]) -> Picture:
    """Each data set's main metric by the number of dimensions kept, for the model and the start."""
    panels = []
    for dataset, metric in main_metrics(groups).items():
        ends = [_by_dim(group, dataset, metric, at_end=True) for group in groups]
        starts = [_by_dim(group, dataset, metric, at_end=False) for group in groups]
        same = all(np.array_equal(start.mean_P, starts[0].mean_P) for start in starts)
        lines = [Line("start", start, None) for start in (starts[:1] if same else starts)]
        lines += [Line(group.label, end, i) for i, (group, end) in enumerate(zip(groups, ends, strict=True))]
        panels.append(Panel(f"{dataset}\n{metric}", lines, x_label="dimensions"))
    caption = "Scores of embeddings cut to their first dimensions: the trained model, and the starting model (dotted)."
    return line_picture("matryoshka", "Scores by Matryoshka dimension", caption, panels)


def similarity(groups: Sequence[Group]) -> Picture:
    """Mean cosine of queries to positives and to negatives; with the rule relative, the negatives' mean quantile."""
    panels = [
        _panel("positives", groups, "positive_similarity"),
        _panel("negatives", groups, "negative_similarity"),
    ]
    caption = "Mean cosine of the step's queries to their positive and to their negatives."
    if any("negative_quantile" in run.columns for group in groups for run in group.runs):
        panels.append(_panel("negatives' quantile", groups, "negative_quantile"))
        caption += " Quantile: the share of the step's other documents that are less similar than the negative."
    return line_picture("similarity", "Similarity of positives and negatives", caption, panels)


def learning_rate(groups: Sequence[Group]) -> Picture:
    """The learning rate that each step used."""
    panels = [_panel("learning rate", groups, "learning_rate")]
    return line_picture("learning_rate", "Learning rate", "As applied at each step.", panels)


def gradient_norm(groups: Sequence[Group]) -> Picture:
    """The norm of the gradient of all parameters, before clipping."""
    panels = [_panel("gradient norm", groups, "gradient_norm")]
    caption = "Norm of the whole gradient, before clipping (training.max_grad_norm)."
    return line_picture("gradient_norm", "Gradient norm", caption, panels)


def throughput(groups: Sequence[Group]) -> Picture:
    """Texts and tokens per second."""
    panels = [
        _panel("texts per second", groups, "texts_per_second"),
        _panel("tokens per second", groups, "tokens_per_second"),
    ]
    caption = "Unique texts and their tokens (padding not counted), of all ranks together, by the step's wall time."
    return line_picture("throughput", "Throughput", caption, panels)


def memory(groups: Sequence[Group]) -> Picture:
    """The most memory rank 0 had held by each step."""
    panels = [_panel("GiB", groups, "memory_bytes", [1 / _GIB] * len(groups))]
    caption = "The most that rank 0 had held so far: GPU memory allocated, or resident memory without a GPU."
    return line_picture("memory", "Peak memory", caption, panels)


FIGURES: tuple[Callable[[Sequence[Group]], Picture], ...] = (
    evaluation, matryoshka, loss, negatives, similarity, learning_rate, gradient_norm, throughput, phases, memory,
)  # fmt: skip


def _starts(lines: Sequence[Line]) -> list[Line]:
    """The score at step 0 of each line that goes on, as a level line; one line if all start alike."""
    found: dict[float, float] = {}
    for line in lines:
        steps_P, score_P = line.curve.x_P, line.curve.mean_P
        if len(steps_P) > 1 and steps_P[0] == 0:
            found[float(score_P[0])] = max(float(steps_P[-1]), found.get(float(score_P[0]), 0.0))
    return [Line("start", curve_of_points([{0.0: score, last: score}]), None) for score, last in found.items()]


def _loss_panel(title: str, groups: Sequence[Group], column: str) -> Panel:
    task = column.removeprefix("loss/") if "/" in column else None
    scales = [
        1 / _sum_of_levels(group) if all(LOSSES[name].has_levels for name in _losses(group, task)) else 1.0
        for group in groups
    ]
    return _panel(title, groups, column, scales, is_noisy=True)


def _losses(group: Group, task: str | None = None) -> set[str]:
    """The losses that the recipe names for a task; None: for any."""
    settings = group.runs[0].settings
    every = [key for key in settings if key.startswith("tasks.") and key.endswith(".loss")]
    named = [settings.get(key) or () for key in (every if task is None else [f"tasks.{task}.loss"])]
    return {name for value in named for name in ([value] if isinstance(value, str) else value)}


def _sum_of_levels(group: Group) -> float:
    """What the losses of a run's Matryoshka sizes weigh together; 1 without."""
    settings = group.runs[0].settings
    dims, weights = settings.get("model.matryoshka_dims"), settings.get("model.matryoshka_weights")
    return float(sum(weights) if weights else len(dims or [1]))


def _panel(
    title: str, groups: Sequence[Group], column: str, factors: Sequence[float] = (), *, is_noisy: bool = False
) -> Panel:
    """factors: one per group (default: 1) that its values are multiplied by."""
    lines = []
    for position, (group, factor) in enumerate(zip(groups, factors or [1.0] * len(groups), strict=True)):
        raw = curve(group.runs, column)
        scaled = replace(raw, mean_P=raw.mean_P * factor, low_P=raw.low_P * factor, high_P=raw.high_P * factor)
        lines.append(Line(group.label, scaled, position, is_noisy=is_noisy))
    return Panel(title, lines)


def _by_dim(group: Group, dataset: str, metric: str, *, at_end: bool) -> Curve:
    runs = [run for run in group.runs if run.step_of_scores or not at_end]
    return curve_of_points([_dims(run, dataset, metric, run.step_of_scores if at_end else 0) for run in runs])


def _dims(run: RunHistory, dataset: str, metric: str, step: int) -> dict[float, float]:
    scores = run.scores(step).get(dataset, {})
    prefixes = [key for key in scores if key.startswith(f"{metric}@") and not is_quantised(key)]
    return {float(key.partition("@")[2]): _value(scores[key]) for key in prefixes}


def _value(score: float | None) -> float:
    return float("nan") if score is None else score
