"""Draws the figures of docs/how_it_works.md: `python docs/figures/draw.py` writes the .svg files beside it."""

from __future__ import annotations

from pathlib import Path

import matplotlib

matplotlib.use("svg")
import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.patches import FancyBboxPatch, Rectangle

FOLDER = Path(__file__).parent
BLUE, ORANGE, GREEN, GREY = "#4C78A8", "#E8833A", "#54A24B", "#B8B8B8"
plt.rcParams |= {"svg.hashsalt": "figures", "font.size": 10, "font.family": "DejaVu Sans", "figure.facecolor": "white"}


def box(axes: Axes, x: float, y: float, width: float, height: float, text: str = "", color: str = GREY, **more) -> None:
    """A rounded box with its text in the middle."""
    rounded = "round,pad=0,rounding_size=0.06"
    look = {"facecolor": color, "edgecolor": "#333333", "linewidth": 0.8, "alpha": 0.9} | more
    axes.add_patch(FancyBboxPatch((x, y), width, height, boxstyle=rounded, **look))
    axes.text(x + width / 2, y + height / 2, text, ha="center", va="center", fontsize=9)


def arrow(axes: Axes, start: tuple[float, float], end: tuple[float, float], color: str = "#333333") -> None:
    axes.annotate("", end, start, arrowprops={"arrowstyle": "-|>", "color": color, "linewidth": 1.2})


def empty(width: float, height: float, right: float, top: float) -> Axes:
    """Axes without lines, in the units of the boxes."""
    figure, axes = plt.subplots(figsize=(width, height))
    figure.subplots_adjust(0.01, 0.01, 0.99, 0.99)
    axes.set(xlim=(0, right), ylim=(0, top))
    axes.axis("off")
    return axes


def draw_texts() -> None:
    """The examples of a step → its unique texts → micro-batches of the ranks."""
    axes = empty(9.2, 4.3, 13, 6.1)
    tasks = [
        (4.3, BLUE, "retrieval, quota 2", ["query A   A+   a1  a2", "query B   A+   b1  b2"]),
        (2.3, ORANGE, "sts, quota 2", ["A   B   0.8", "C   D   0.1"]),
        (0.3, GREEN, "classification, quota 1", ["E   E+   F   G"]),
    ]
    for y, color, title, rows in tasks:
        box(axes, 0.1, y, 3.5, 1.4, "", color, alpha=0.35)
        axes.text(0.25, y + 1.15, title, fontsize=8.5, va="center")
        for number, row in enumerate(rows):
            axes.text(0.35, y + 0.72 - 0.42 * number, row, fontsize=9, va="center", family="DejaVu Sans Mono")
        arrow(axes, (3.7, y + 0.7), (4.6, 3.0))
    axes.text(1.85, 5.9, "the examples of every task", ha="center", weight="bold")
    axes.text(6.1, 5.9, "unique texts", ha="center", weight="bold")
    texts = ["A", "B", "A+", "a1", "a2", "b1", "b2", "C", "D", "E", "E+", "F", "G"]
    for number, text in enumerate(texts):
        box(axes, 4.75 + 0.95 * (number % 3), 4.5 - 0.75 * (number // 3), 0.8, 0.58, text, "#F2F2F2")
    axes.text(6.1, 0.75, "A, B and A+ stand in several\nexamples: encoded once", ha="center", fontsize=8.5)
    axes.text(10.6, 5.9, "dealt by tokens", ha="center", weight="bold")
    ranks = [
        (3.3, "rank 0", [["a1", "a2", "F"], ["A", "C", "E", "b1"]]),
        (0.4, "rank 1", [["A+", "b2"], ["B", "D", "E+", "G"]]),
    ]
    for y, name, batches in ranks:
        box(axes, 8.5, y, 4.3, 2.2, "", "#EDEDED")
        axes.text(8.65, y + 1.95, name, fontsize=8.5, va="center")
        for row, batch in enumerate(batches):
            width = 3.6 / len(batch)
            for number, text in enumerate(batch):
                box(axes, 8.75 + number * (width + 0.07), y + 0.15 + 0.83 * row, width, 0.62, text, "#F9F9F9")
        arrow(axes, (7.7, 3.0), (8.4, y + 1.1))
    axes.text(10.65, 2.95, "a row is a micro-batch of equally long texts", ha="center", fontsize=8.5)
    axes.figure.savefig(FOLDER / "texts.svg", metadata={"Date": None})


def draw_step() -> None:
    """The three phases of a step on two ranks over time, with what is sent and what is kept."""
    axes = empty(9.2, 4.2, 13.2, 5.9)
    phases = [(1.1, 4.9, "1  embed", BLUE), (5.2, 7.6, "2  score", ORANGE), (7.9, 11.7, "3  replay", GREEN)]
    for start, end, name, color in phases:
        axes.add_patch(Rectangle((start - 0.1, 0.75), end - start + 0.2, 4.35, color=color, alpha=0.13, linewidth=0))
        axes.text((start + end) / 2, 5.45, name, ha="center", weight="bold")
    for y, rank in ((3.35, "rank 0"), (1.25, "rank 1")):
        axes.text(0.05, y + 0.7, rank, va="center")
        for number in range(3):
            kept = number == 0
            box(
                axes,
                1.1 + 1.27 * number,
                y + 0.2,
                1.15,
                1.0,
                "forward\nkept" if kept else "forward",
                BLUE,
                alpha=0.9 if kept else 0.45,
            )
            label = "backward" if kept else "forward,\nbackward"
            box(axes, 7.9 + 1.27 * number, y + 0.2, 1.15, 1.0, label, GREEN, alpha=0.6)
        box(axes, 5.3, y + 0.2, 1.05, 1.0, "gather", GREY)
        box(axes, 6.45, y + 0.2, 1.05, 1.0, "losses", ORANGE)
        box(axes, 11.95, y + 0.2, 1.1, 1.0, "AdamW", GREY)
    for x in (5.82, 12.5):
        arrow(axes, (x, 3.5), (x, 2.5))
        arrow(axes, (x, 2.5), (x, 3.5))
    notes = [
        (3.0, "no graph, except as many\nas free memory allows"),
        (6.4, "only embeddings travel;\nloss and its gradient"),
        (9.8, "each micro-batch with its\npart of that gradient"),
        (12.5, "gradients are\nsummed"),
    ]
    for x, text in notes:
        axes.text(x, 0.38, text, ha="center", va="center", fontsize=8.5)
    axes.figure.savefig(FOLDER / "step.svg", metadata={"Date": None})


def draw_tiles() -> None:
    """The similarity matrix as a whole, and as tiles that are used up as they are computed."""
    axes = empty(9.2, 3.9, 13, 5.5)
    for left, title in ((0.9, "plain autograd"), (7.6, "info_nce, tile by tile")):
        axes.text(left + 2.0, 5.2, title, ha="center", weight="bold")
        axes.text(left + 2.0, 4.72, "N documents", ha="center", fontsize=8.5)
        axes.text(left - 0.2, 3.05, "B queries", rotation=90, va="center", ha="center", fontsize=8.5)
    axes.add_patch(Rectangle((0.9, 1.5), 4.0, 3.0, facecolor=BLUE, alpha=0.55, edgecolor="#333333"))
    axes.text(
        2.9,
        3.0,
        "similarities, softmax and their\ngradient: B × N numbers each,\nfor every Matryoshka size",
        ha="center",
        va="center",
        fontsize=9,
    )
    for row in range(3):
        for column in range(4):
            now = (row, column) == (1, 2)
            done = row < 1 or (row == 1 and column < 2)
            color = ORANGE if now else "#DDDDDD" if done else "white"
            axes.add_patch(
                Rectangle((7.6 + column, 3.5 - row), 1, 1, facecolor=color, edgecolor="#888888", linewidth=0.8)
            )
            if done:
                axes.plot([7.75 + column, 8.45 + column], [3.65 - row, 4.35 - row], color="#999999", linewidth=0.8)
    axes.text(10.1, 3.0, "now", ha="center", va="center", fontsize=9)
    box(axes, 11.75, 1.5, 1.15, 3.0, "per query:\nΣ e^s,\ngradient", ORANGE, alpha=0.35)
    box(axes, 7.6, 0.55, 4.0, 0.75, "per document: its gradient", ORANGE, alpha=0.35)
    axes.text(2.9, 1.1, "memory grows with B · N", ha="center", fontsize=9)
    axes.text(9.6, 0.2, "a tile is thrown away once it is added up: memory grows with B + N", ha="center", fontsize=9)
    axes.figure.savefig(FOLDER / "tiles.svg", metadata={"Date": None})


if __name__ == "__main__":
    draw_texts()
    draw_step()
    draw_tiles()
