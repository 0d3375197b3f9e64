"""Results of `benchmarks.ablation`: held-out scores beside the paper's, swing of the losses, and the conditions."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from operator import attrgetter
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.ablation.data import HELD_OUT
from benchmarks.ablation.recipes import ARMS, NUM_TASKS
from benchmarks.ablation.swing import STEP_LOSS, loss_columns, step_losses, swing, task_losses
from benchmarks.runner.command_line import write_json
from benchmarks.runner.result import in_figures, markdown_table, mean_and_spread, seeds_label
from harness.data.source.locate import dataset_name
from harness.evaluation.kinds.table import MAIN_METRIC
from harness.report.history import RunHistory
from harness.report.page import PAGE, write_report
from harness.report.tables import Finding
from harness.run.folder import RunFolder

BASELINE, AVERAGE, START = "vanilla", "average", "start"
_KINDS = (*HELD_OUT, AVERAGE)
# arXiv 2408.15710, table of the ablation, on 35 data sets of CMTEB. The paper averages over data sets, we over kinds.
_PAPER_COLUMNS = (AVERAGE, "classification", "clustering", "reranking", "retrieval", "sts", "pair_classification")
PAPER: dict[str, dict[str, float]] = {
    arm: dict(zip(_PAPER_COLUMNS, row, strict=True))
    for arm, row in {
        START: (62.9, 60.4, 62.7, 70.4, 63.2, 55.2, 87.3),
        "vanilla": (68.8, 71.4, 62.0, 67.0, 72.4, 61.3, 89.9),
        "cbb": (70.4, 73.0, 65.6, 68.1, 72.3, 64.1, 90.0),
        "mining": (71.2, 74.4, 66.2, 69.0, 73.8, 63.5, 90.4),
        "both": (72.62, 75.03, 66.33, 72.76, 76.67, 64.18, 91.66),
    }.items()
}


@dataclass(frozen=True, slots=True)
class FinishedRun:
    """A run of one arm and seed. `scores`: kind of evaluation → main metric in percent, and their average."""

    arm: str
    seed: int
    scores: dict[str, float]
    history: RunHistory


def write_result(out: Path, facts: dict[str, Any]) -> str:
    """Write result.md, result.json, report.html and figures/ from the finished runs in `out`; return result.md.

    Raises:
        ValueError: no run is finished.
    """
    start, runs = main_scores(out / "scores" / f"{START}.json"), finished_runs(out)
    if not runs:
        raise ValueError(f"--out: got {out}, in which no run is finished, expected at least one; run without --table")
    findings = [scores_table(start, runs), changes_table(runs), *swing_tables(runs), conditions_table(runs, facts)]
    text = "\n\n".join(
        f"{finding.title}: {finding.note}\n\n{markdown_table(finding.columns, finding.rows)}" for finding in findings
    )
    (out / "result.md").write_text(text + "\n", encoding="utf-8")
    write_json(out / "result.json", _as_json(start, runs, facts))
    histories = {arm: [run.history for run in runs if run.arm == arm] for arm in ARMS}
    pictures = [task_losses(histories), step_losses(histories)]
    write_report([run.history for run in runs], out, title="Ablation", findings=findings, pictures=pictures)
    return f"{text}\n\nreport: {out / PAGE}"


def finished_runs(out: Path) -> list[FinishedRun]:
    """Return every run that has scores, sorted by arm, then by seed."""
    runs = []
    for file in (out / "scores").glob("*-*.json"):
        arm, _, seed = file.stem.rpartition("-")
        history = RunFolder.containing(out / "runs" / file.stem).history()
        runs.append(FinishedRun(arm, int(seed), main_scores(file), _with_scores(history, out, file)))
    return sorted(runs, key=lambda run: (list(ARMS).index(run.arm), run.seed))


def main_scores(file: Path) -> dict[str, float]:
    """Read kind → main metric in percent, and add the average over kinds."""
    datasets = json.loads(file.read_text(encoding="utf-8"))["datasets"]
    names = dict(zip(HELD_OUT, dataset_name(list(HELD_OUT.values())), strict=True))
    scores: dict[str, float] = {kind: 100 * datasets[name][MAIN_METRIC[kind]] for kind, name in names.items()}
    return {**scores, AVERAGE: float(np.mean(list(scores.values())))}


def scores_table(start: dict[str, float], runs: Sequence[FinishedRun]) -> Finding:
    """Mean ± standard deviation of every arm; below each arm the scores that the paper reports."""
    rows = [["starting model", *(in_figures(start[kind], None, digits=2) for kind in _KINDS)], _paper_row(START)]
    for arm, members in _by_arm(runs).items():
        cells = (mean_and_spread([run.scores[kind] for run in members]) for kind in _KINDS)
        rows.append([seeds_label(arm, len(members)), *(in_figures(*cell, digits=2) for cell in cells)])
        rows += [_paper_row(arm)] if arm in PAPER else []
    metrics = ", ".join(f"{kind} {MAIN_METRIC[kind]}" for kind in HELD_OUT)
    note = (
        f"percent, mean ± standard deviation over seeds ({metrics}). The paper's are other data, another model and "
        "single runs: compare the changes, not the heights."
    )
    return Finding("Held-out scores", note, ["arm", *_KINDS], rows)


def changes_table(runs: Sequence[FinishedRun]) -> Finding:
    """Difference of every arm to the baseline of the same seed; below each arm the difference in the paper."""
    rows = []
    scores = {(run.arm, run.seed): run.scores for run in runs}
    for arm, members in _by_arm(runs).items():
        pairs = [(run.scores, scores[BASELINE, run.seed]) for run in members if (BASELINE, run.seed) in scores]
        if arm == BASELINE or not pairs:
            continue
        cells = (mean_and_spread([own[kind] - base[kind] for own, base in pairs]) for kind in _KINDS)
        rows.append([seeds_label(arm, len(pairs)), *(in_figures(*cell, digits=2, sign="+") for cell in cells)])
        if arm in PAPER:
            change = {kind: PAPER[arm][kind] - PAPER[BASELINE][kind] for kind in _KINDS}
            rows.append([f"{arm}, the paper", *(f"{change[kind]:+.2f}" for kind in _KINDS)])
    note = "percentage points, mean ± standard deviation over seeds of the difference within a seed."
    return Finding(f"Change from {BASELINE}", note, ["arm", *_KINDS], rows)


def swing_tables(runs: Sequence[FinishedRun]) -> list[Finding]:
    """Two tables of `swing` per arm: variance of a loss's change between steps, and that variance per 1,000 texts."""
    columns = loss_columns([run.history for run in runs])
    head = ["arm", *("the step's loss" if column == STEP_LOSS else f"task {column[5:]}" for column in columns)]
    rows: tuple[list[list[str]], list[list[str]]] = [], []
    for arm, members in _by_arm(runs).items():
        swings_of_column = [
            [column_swing for run in members if (column_swing := swing(run.history, column)) is not None]
            for column in columns
        ]
        for table, read in zip(rows, (attrgetter("variance"), attrgetter("per_thousand_texts")), strict=True):
            cells = (
                mean_and_spread([read(column_swing) for column_swing in column_swings])
                for column_swings in swings_of_column
            )
            table.append([seeds_label(arm, len(members)), *(in_figures(*cell, digits=3) for cell in cells)])
    note = (
        "variance of a loss's change from one step that has it to the next, mean ± standard deviation over seeds. The "
        "step's loss is that of one task where tasks alternate, of all tasks in cbb and both."
    )
    per_text = "the same, divided by the texts of all tasks seen from one such step to the next, times 1,000."
    return [
        Finding("Swing of the losses", note, head, rows[0]),
        Finding("Swing per 1,000 texts seen", per_text, head, rows[1]),
    ]


def conditions_table(runs: Sequence[FinishedRun], facts: dict[str, Any]) -> Finding:
    """What a step of each arm contains, and which settings are equal in all arms."""
    size, rows = facts["size"], []
    for arm, members in _by_arm(runs).items():
        queries = size["examples"] * ARMS[arm].turns_at_once
        steps = ARMS[arm].steps(size["turns"])
        replaced, texts, tokens, seconds = (
            float(np.mean([np.nansum(run.history.column(column)) for run in members]))
            for column in ("negatives_replaced", "num_texts", "num_tokens", "seconds")
        )
        interval = size["judged_every"] * (1 if ARMS[arm].balance == "cbb" else NUM_TASKS)
        rows.append([
            seeds_label(arm, len(members)), ARMS[arm].balance, str(steps), f"{texts / steps:.0f}", f"{texts:,.0f}",
            f"{tokens:,.0f}", str(queries * (size["per_query"] + 1) - 1), f"{replaced:.0f}",
            str(interval) if ARMS[arm].mined else "", f"{seconds:,.0f}",
        ])  # fmt: skip
    head = [
        "arm", "loss.balance", "steps", "texts/step", "texts", "tokens", "negatives/query", "negatives replaced",
        "v1 judges every … steps", "seconds",
    ]  # fmt: skip
    counts = (f"{name}: {', '.join(f'{n:,} {what}' for what, n in of.items())}" for name, of in facts["rows"].items())
    note = (
        f"{facts['model']}; learning rate {size['learning_rate']:g}; texts cut at {size['max_length']} tokens in "
        f"mining, training and evaluation. Every arm sees the same {size['turns'] * size['examples']} examples of each "
        f"task in the same order, {size['per_query']} own negatives with each retrieval query and each classified "
        "text; texts and tokens are those of all steps, each text of a step once. Negatives/query: of a retrieval "
        "query, all documents of its task in the step but its positive, at most. v1's interval is short because the "
        f"runs are (the paper: 100). {'; '.join(counts)}."
    )
    return Finding("Conditions", note, head, rows)


def _paper_row(arm: str) -> list[str]:
    label = "the paper's" if arm == START else f"{arm}, the paper"
    return [label, *(str(PAPER[arm][kind]) for kind in _KINDS)]


def _by_arm(runs: Sequence[FinishedRun]) -> dict[str, list[FinishedRun]]:
    return {arm: [run for run in runs if run.arm == arm] for arm in dict.fromkeys(run.arm for run in runs)}


def _with_scores(history: RunHistory, out: Path, file: Path) -> RunHistory:
    """Add the scores before and after training to the history. `harness evaluate` computed them outside of the run."""
    steps = ((0, out / "scores" / f"{START}.json"), (int(history.step_P[-1]), file))
    evaluations = [
        {"step": step, "dataset": name, "metrics": metrics}
        for step, scores in steps
        for name, metrics in json.loads(scores.read_text(encoding="utf-8"))["datasets"].items()
    ]
    return replace(history, evaluations=evaluations)


def _as_json(start: dict[str, float], runs: Sequence[FinishedRun], facts: dict[str, Any]) -> dict[str, Any]:
    def swings(history: RunHistory) -> dict[str, Any]:
        swing_of_column = {column: swing(history, column) for column in loss_columns([history])}
        return {
            column: {"variance": column_swing.variance, "per_thousand_texts": column_swing.per_thousand_texts}
            for column, column_swing in swing_of_column.items()
            if column_swing is not None
        }

    return {
        "start": start,
        "runs": [
            {"arm": run.arm, "seed": run.seed, "scores": run.scores, "swing": swings(run.history)} for run in runs
        ],
        "arms": {
            arm: {kind: mean_and_spread([run.scores[kind] for run in members]) for kind in _KINDS}
            for arm, members in _by_arm(runs).items()
        },
        "paper": PAPER,
        **facts,
    }
