"""Writes report.json and report.md: how many rows and pairs were dropped for each reason, samples, and the settings."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from harness.files import replace_file
from harness.filtering.near.find import Compared
from harness.filtering.reasons import EXPLAINED, Reason

REPORT, PAGE = "report.json", "report.md"
_QUANTILES = (0.0, 0.01, 0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99, 1.0)
_BIN = 0.05
_BAR_WIDTH = 40


def counts(row_P: np.ndarray, reason_P: np.ndarray) -> dict[str, Any]:
    """Numbers of rows and pairs in the source, kept, and dropped per reason; `Reason` says how rows are counted."""
    row_start_R = np.flatnonzero(np.diff(row_P, prepend=-1))
    latest_R = np.maximum.reduceat(reason_P, row_start_R)
    reason_R = np.where(np.minimum.reduceat(reason_P, row_start_R) == Reason.KEPT, Reason.KEPT, latest_R)
    return {"rows": _count(reason_R), "pairs": _count(reason_P)}


def score_summary(score_P: np.ndarray) -> dict[str, Any]:
    """Number, quantiles and histogram (bins of 0.05) of the pairs' cosines. Pairs with NaN were not scored."""
    score_E = score_P[~np.isnan(score_P)]
    if not len(score_E):
        return {"scored": 0, "quantiles": {}, "histogram": []}
    edges = np.round(np.arange(-1, 1 + _BIN, _BIN), 2)
    # By rounding, the cosine of equal texts may be slightly above 1.
    count, _ = np.histogram(np.clip(score_E, -1, 1), edges)
    bins = [[float(edge), int(number)] for edge, number in zip(edges, count, strict=False) if number]
    quantile = np.quantile(score_E.astype(np.float64), _QUANTILES)
    return {
        "scored": len(score_E),
        "quantiles": {f"{share:g}": round(float(value), 4) for share, value in zip(_QUANTILES, quantile, strict=True)},
        "histogram": bins,
    }


def write_report(out: Path, report: dict[str, Any]) -> None:
    """Write both files. report.json is written last: its existence means that the filter has finished."""
    replace_file(out / PAGE, page(report))
    replace_file(out / REPORT, json.dumps(report, indent=2, ensure_ascii=False) + "\n")


def summary(report: dict[str, Any]) -> str:
    """One line with the numbers of kept and of all rows, then one line per reason with the dropped rows."""
    rows = report["rows"]
    lines = [f"{rows['kept']:,} of {rows['in']:,} rows kept"]
    return "\n".join([*lines, *(f"  {number:>12,} {label}" for label, number in rows["dropped"].items())])


def warnings(report: dict[str, Any]) -> list[str]:
    """What the user must know about how the pairs were filtered."""
    found = report.get("near_duplicates")  # null if near duplicates were not looked for
    warning = None if found is None else Compared(**found).warning()
    return [] if warning is None else [warning]


def page(report: dict[str, Any]) -> str:
    """The report as Markdown."""
    rows, pairs = report["rows"], report["pairs"]
    lines = [f"# Filter: {report['data']['path']}", ""]
    lines += [f"{rows['kept']:,} of {rows['in']:,} rows kept, {pairs['kept']:,} of {pairs['in']:,} pairs; "]
    lines[-1] += f"{report['shortened_rows']:,} kept rows lost some of their positives."
    lines += ["", "| dropped because | rows | pairs | meaning |", "| --- | --: | --: | --- |"]
    for reason, meaning in EXPLAINED.items():
        dropped = (rows["dropped"].get(reason.label, 0), pairs["dropped"].get(reason.label, 0))
        if any(dropped):
            lines.append(f"| {reason.label} | {dropped[0]:,} | {dropped[1]:,} | {meaning} |")
    lines += _near_duplicates(report)
    lines += [
        "",
        "## Scores",
        "",
        f"{report['scores']['scored']:,} pairs were scored by {report['model']['model']}.",
        "",
    ]
    if report["scores"]["scored"]:
        quantiles = report["scores"]["quantiles"]
        lines += ["| quantile | " + " | ".join(quantiles) + " |", "| --- |" + " --: |" * len(quantiles)]
        lines += ["| cosine | " + " | ".join(f"{value:.3f}" for value in quantiles.values()) + " |", "", "```text"]
        lines += [*_bars(report["scores"]["histogram"]), "```"]
    lines += ["", "## Samples of what was dropped"]
    for label, samples in report["samples"].items():
        lines += ["", f"### {label}", "", *(_sample_line(sample) for sample in samples)]
    facts = {key: report[key] for key in ("settings", "model", "data", "corpus")}
    lines += ["", "## Made with", "", "```json", json.dumps(facts, indent=2, ensure_ascii=False), "```", ""]
    return "\n".join(lines)


def _near_duplicates(report: dict[str, Any]) -> list[str]:
    """How near duplicates were looked for; nothing if they were not."""
    if report.get("near_duplicates") is None:
        return []
    found = Compared(**report["near_duplicates"])
    line = (
        f"{found.comparisons:,} comparisons of pairs by sketches, {found.exact:,} of them by their texts. "
        f"{found.missed_at_threshold:.2%} of the near duplicates exactly at near_threshold are not found, of more "
        "similar ones fewer."
    )
    return ["", "## Near duplicates", "", line, *(part for warning in warnings(report) for part in ("", warning))]


def _count(reason_X: np.ndarray) -> dict[str, Any]:
    number = np.bincount(reason_X, minlength=len(Reason))
    dropped = {reason.label: int(number[reason]) for reason in EXPLAINED if number[reason]}
    return {"in": len(reason_X), "kept": int(number[Reason.KEPT]), "dropped": dropped}


def _bars(histogram: list[list[float]]) -> list[str]:
    most = max(number for _, number in histogram)
    return [
        f"{edge:+.2f} … {edge + _BIN:+.2f} {int(number):>12,}  {'#' * max(1, round(_BAR_WIDTH * number / most))}"
        for edge, number in histogram
    ]


def _sample_line(sample: dict[str, Any]) -> str:
    if "problem" in sample:
        return f"- line {sample['line']}: {sample['problem']}"
    score = f" (score {sample['score']:.3f})" if "score" in sample else ""
    query, positive = (json.dumps(sample[side], ensure_ascii=False) for side in ("query", "positive"))
    return f"- line {sample['line']}{score}: {query} → {positive}"
