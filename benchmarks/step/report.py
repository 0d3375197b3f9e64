"""Judges and prints the result of `benchmarks.step`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

# Texts per second of this build over the baseline (commit 437cd58, whose bf16 rounds the weights to bf16).
SPEED_GOALS = {"fp32": 1.6, "bf16": 1.5}
SHARE_GOALS = {"fp32": 0.75}  # of the machine's matrix rate, by this build


def judge(sides: Mapping[tuple[str, str], Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The goals that can be judged: what, the figure, the goal, and whether it is met."""
    goals = []
    for precision, goal in SPEED_GOALS.items():
        ours, baseline = sides.get((precision, "this build")), sides.get((precision, "baseline"))
        if ours and baseline:
            ratio = ours["texts_per_second"] / baseline["texts_per_second"]
            goals.append({"what": f"{precision}: speed over the baseline", "figure": ratio, "goal": goal})
    for precision, goal in SHARE_GOALS.items():
        if ours := sides.get((precision, "this build")):
            what = f"{precision}: share of the matrix rate"
            goals.append({"what": what, "figure": ours["share"], "goal": goal})
    for (precision, name), side in sides.items():
        baseline = sides.get((precision, "baseline"))
        if baseline and name.startswith("training.activation_memory=0"):
            ratio = baseline["peak_memory_bytes"] / side["peak_memory_bytes"]
            what = f"{precision}: memory of the baseline over that of {name}"
            goals.append({"what": what, "figure": ratio, "goal": 1.0})
    return [{**goal, "met": goal["figure"] >= goal["goal"]} for goal in goals]


def show(result: Mapping[str, Any]) -> None:
    """Print a row per side, the phases of a step, the losses, the goals, and the sides that failed."""
    work = result["work"]
    print(f"{result['ranks']} ranks of {result['threads']} threads, {result['batch']} pairs a step")
    print(
        f"{work['tokens']:.0f} tokens a step, {work['padding']:.1%} padding, {work['parameters']:,} parameters without "
        f"embeddings, {work['operations'] / 1e12:.2f} TFLOP a step"
    )
    for precision, rate in result["matrix_rates"].items():
        print(f"matrix products in {precision}: {rate / 1e9:.0f} GFLOP/s")
    head = ("precision", "side", "texts/s", "tokens/s", "share", "CPU s", "page faults", "peak MiB")
    print(f"\n{head[0]:<13}{head[1]:<36}" + "".join(f"{name:>12}" for name in head[2:]))
    for side in result["sides"]:
        figures = (
            f"{side['texts_per_second']:.1f}",
            f"{side['tokens_per_second']:.0f}",
            f"{side['share']:.0%}",
            _or_unknown(side["cpu_seconds"], ".2f"),
            _or_unknown(side["page_faults"], ",.0f"),
            f"{side['peak_memory_bytes'] / 2**20:.0f}",
        )
        print(f"{side['precision']:<13}{side['name']:<36}" + "".join(f"{figure:>12}" for figure in figures))
    _show_phases(result["sides"])
    print("\nlosses")
    for side in result["sides"]:
        losses = " ".join(f"{loss:.4f}" for loss in side["losses"])
        print(f"{side['precision']:<13}{side['name']:<36} {losses}")
    for name, problem in result["failures"].items():
        print(f"FAILED {name}: {problem}")
    for goal in result["goals"]:
        verdict = "PASS" if goal["met"] else "FAIL"
        print(f"{verdict}: {goal['what']}: {goal['figure']:.2f}, goal {goal['goal']:g}")


def _show_phases(sides: list[Mapping[str, Any]]) -> None:
    """Seconds of each phase of a step. Waiting for other ranks (gather, reduce) lies within the phases."""
    names = list(sides[0]["seconds_of_phase"]) if sides else []
    print(f"\nseconds of a step{'':<32}" + "".join(f"{name:>14}" for name in ("all", *names)))
    for side in sides:
        row = (side["seconds"], *side["seconds_of_phase"].values())
        figures = (_or_unknown(seconds, ".3f") for seconds in row)
        print(f"{side['precision']:<13}{side['name']:<36}" + "".join(f"{figure:>14}" for figure in figures))


def _or_unknown(value: float | None, form: str) -> str:
    return "unknown" if value is None else format(value, form)
