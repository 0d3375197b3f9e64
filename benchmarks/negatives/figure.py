"""Plot the negatives' mean cosine over the steps for static, v1 and v2 (as figure 2 of the paper)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np

STYLES = {"static": ("#0072B2", "-"), "v1": ("#D55E00", "--"), "v2": ("#009E73", "-."), "v2_no_floor": ("#CC79A7", ":")}
V1_RATIO = 1.15


def draw(steps_of_arm: Mapping[str, Sequence[Sequence[Mapping[str, Any]]]], file: Path) -> None:
    """Draw one line per arm and save the figure to `file`.

    The line is the mean over the arm's runs, with a band of one standard deviation. Triangles mark the steps at which a
    run replaced negatives. A dotted line shows the threshold of v1.

    steps_of_arm: arm → runs → rows of metrics.jsonl. The arm without hard negatives has no line.
    """
    figure, axes = plt.subplots(figsize=(9, 5), layout="constrained")
    for arm, (colour, line) in STYLES.items():
        runs = steps_of_arm.get(arm, ())
        if not runs:
            continue
        score_RS, start_RS, replaced_RS = (
            np.array([[row[key] for row in run] for run in runs], dtype=float)  # null, which is unknown, is NaN
            for key in ("negative_similarity", "negative_similarity_start", "negatives_replaced")
        )
        step_S, mean_S, spread_S = np.arange(1, score_RS.shape[1] + 1), score_RS.mean(0), score_RS.std(0)
        axes.plot(step_S, mean_S, line, color=colour, label=f"{arm}, {len(runs)} seed{'s' if len(runs) > 1 else ''}")
        axes.fill_between(step_S, mean_S - spread_S, mean_S + spread_S, color=colour, alpha=0.15, linewidth=0)
        changed_S = replaced_RS.mean(0) > 0
        most = max(replaced_RS.mean(0).max(), 1)
        size_S = 10 + 60 * replaced_RS.mean(0)[changed_S] / most
        axes.scatter(step_S[changed_S], mean_S[changed_S], size_S, color=colour, marker="v", zorder=3)
        if arm == "v1":
            threshold_S = start_RS.mean(0) / V1_RATIO
            axes.plot(step_S, threshold_S, ":", color="#888888", linewidth=1, label="threshold of v1: mean S0 / 1.15")
    axes.set(xlabel="step", ylabel="mean cosine of a query to its own negatives", title="Negatives' scores in training")
    axes.scatter([], [], color="#555555", marker="v", label="replacements (area: their number)")
    axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False)
    axes.grid(alpha=0.2)
    figure.savefig(file, dpi=120)
    plt.close(figure)
