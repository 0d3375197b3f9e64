"""The tables of `benchmarks.evidence`, as Markdown and JSON: conditions, curve, rates, scores, differences, costs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.evidence.arms import MIXTURE, NEGATIVES, MixtureArm, NegativesArm, Part, Size
from benchmarks.evidence.figures import draw
from benchmarks.evidence.plan import (
    FLAT,
    PARTS,
    arms_of,
    best_rate,
    curve_run,
    flat_step,
    rate_source,
    rates_of,
    reason_to_skip,
    steps_of_runs,
)
from benchmarks.evidence.recipes import Run
from benchmarks.evidence.results import START, Results, Trained
from benchmarks.evidence.statistics import LEVEL, MEAN, Difference, RunScores, difference
from benchmarks.runner.command_line import write_json
from benchmarks.runner.result import in_figures, markdown_table, mean_and_spread, seeds_label
from harness.report.history import RunHistory

Section = tuple[str, str, list[str], list[list[str]]]  # title, note, head, rows


Differences = dict[tuple[str, str], dict[str, Difference]]  # (arm, baseline) → data set or `MEAN` → difference


@dataclass(frozen=True, slots=True)
class PartResult:
    """What is finished of a part.

    rate_of: of the arms whose sweep is finished. tested: arm → seed → test scores. sets: the names of the test sets,
    the main one first.
    """

    part: Part
    rate_of: dict[str, float]
    tested: dict[str, dict[int, RunScores]]
    sets: list[str]
    differences: Differences


def part_result(results: Results, part: Part, size: Size, sets: list[str]) -> PartResult:
    """What is finished of a part; sets: the names of its test sets, the main one first."""
    rate_of = {arm: rate for arm in arms_of(part) if (rate := finished_rate(results, arm, size)) is not None}
    tested = results.tested(arms_of(part), rate_of)
    return PartResult(part, rate_of, tested, sets, differences_of(part, tested, sets))


def differences_of(part: Part, tested: Mapping[str, Mapping[int, RunScores]], sets: Sequence[str]) -> Differences:
    """The differences of all arms to their baselines, on every set and on the mean of all.

    Corrected for the differences that are planned, so that no verdict depends on when one looks: those on the main set
    and on the mean for these two of all arms, those on another set for all sets of all arms.
    """
    arms: Mapping[str, NegativesArm | MixtureArm] = NEGATIVES if part == "negatives" else MIXTURE
    pairs = [
        (arm, baseline)
        for arm in tested
        for baseline in arms[arm].baselines
        if tested[arm].keys() & tested.get(baseline, {}).keys()
    ]
    names_of_label = {name: [name] for name in sets} | {MEAN: list(sets)}
    planned = num_planned(part)
    judged_of_label = {
        label: planned * (2 if label in (sets[0], MEAN) else len(names_of_label)) for label in names_of_label
    }
    return {
        (arm, baseline): {
            label: difference(tested[arm], tested[baseline], names, judged_of_label[label])
            for label, names in names_of_label.items()
        }
        for arm, baseline in pairs
    }


def num_planned(part: Part) -> int:
    """Number of pairs (arm, baseline) of a part, finished or not."""
    arms: Mapping[str, NegativesArm | MixtureArm] = NEGATIVES if part == "negatives" else MIXTURE
    return sum(len(arms[arm].baselines) for arm in arms_of(part))


def finished_rate(results: Results, arm: str, size: Size) -> float | None:
    """The learning rate that was chosen for an arm; None as long as a run that chooses it is missing."""
    source = rate_source(arm, size)
    runs = {rate: results.trained(Run(source, rate, 0)) for rate in rates_of(source, size)}
    if None in runs.values():
        return None
    return best_rate({rate: trained.dev_score() for rate, trained in runs.items() if trained is not None})


def write_tables(out: Path, facts: Mapping[str, Any], size: Size, sets_of_part: Mapping[Part, list[str]]) -> str:
    """Write result.md, result.json and figures/ of what is finished, and return the text of result.md.

    Raises:
        ValueError: no run is finished.
    """
    results = Results(out)
    if not results.all_trained():
        raise ValueError(f"--out: got {out}, in which no run is finished, expected at least one; run without --table")
    parts = [part_result(results, part, size, sets_of_part[part]) for part in PARTS]
    runs_of_arm = {
        arm: [t for t in results.all_trained() if t.run.arm == arm and t.run.rate == part.rate_of[arm]]
        for part in parts
        for arm in part.rate_of
    }
    histories = {arm: [results.history(trained.run) for trained in runs] for arm, runs in runs_of_arm.items()}
    figures = draw(out / "figures", results.trained(curve_run(size)), runs_of_arm, histories)
    sections = [conditions(facts, size, results), *curve_section(results, size), sweep_section(results, size)]
    for part in parts:
        if part.tested:
            sections += [scores_section(part, results), *differences_section(part), cost_section(part, histories)]
    skipped = [reason for arm in (*NEGATIVES, *MIXTURE) if (reason := reason_to_skip(arm)) is not None]
    text = "\n\n".join([*map(_in_markdown, sections), *skipped, *(f"figure: {file}" for file in figures)])
    (out / "result.md").write_text(text + "\n", encoding="utf-8")
    write_json(out / "result.json", _as_json(facts, results, parts))
    return text


def conditions(facts: Mapping[str, Any], size: Size, results: Results) -> Section:
    """What all runs share: model, data, size; a row per part of the docstrings."""
    trained = results.all_trained()
    hours = sum(run.seconds for run in trained) / 3600
    rows = "; ".join(
        f"{name}: {', '.join(f'{n:,} {what}' for what, n in of.items())}" for name, of in facts["rows"].items()
    )
    note = (
        f"starting model {facts['model']}; texts cut at {size.max_length} tokens; {size.precision}; a step has "
        f"{size.quota} queries with {size.per_query} hard negatives each, or {facts['in_batch_quota']} without, as "
        "many tokens if negatives are as long as the mean document; choices were made on dev sets. "
        f"{rows}. {len(trained)} runs trained, {hours:.1f} hours of steps."
    )
    table = []
    for part, packages in facts["packages"].items():
        names = ", ".join(f"{name} {about['version']} ({about['docstrings']:,})" for name, about in packages.items())
        table.append([part, str(len(packages)), f"{sum(about['docstrings'] for about in packages.values()):,}", names])
    return "Conditions", note, ["docstrings for", "packages", "docstrings", "which"], table


def curve_section(results: Results, size: Size) -> list[Section]:
    """The development score of in-batch training over the steps, and what follows from it."""
    trained = results.trained(curve_run(size))
    if trained is None:
        return []
    scores = {step: trained.dev_score(step) for step in trained.dev}
    after_start = {step: score for step, score in scores.items() if step}
    flat = flat_step(after_start)
    found = f"no gain above {FLAT:g} after step {flat}" if flat is not None else f"still rising at step {trained.steps}"
    note = (
        f"in-batch negatives only, learning rate {trained.run.rate:g}, constant; {found}. Runs that compare negatives "
        f"have {steps_of_runs(after_start, size)} steps."
    )
    return [("Curve", note, ["step", *map(str, scores)], [["dev nDCG@10", *(f"{s:.4f}" for s in scores.values())]])]


def sweep_section(results: Results, size: Size) -> Section:
    """The mean development score of every swept arm and rate, at seed 0."""
    arms = [arm for part in PARTS for arm in dict.fromkeys(rate_source(arm, size) for arm in arms_of(part))]
    rates = sorted({rate for arm in arms for rate in rates_of(arm, size)})
    rows, at_an_end = [], []
    for arm in arms:
        found = {rate: results.trained(Run(arm, rate, 0)) for rate in rates_of(arm, size)}
        best = finished_rate(results, arm, size)
        cells = [_sweep_cell(found.get(rate), rate == best) for rate in rates]
        rows += [[arm, *cells]] if any(cells) else []
        at_an_end += [arm] if best in (min(rates_of(arm, size)), max(rates_of(arm, size))) else []
    note = (
        "mean score on the dev sets after the last step, seed 0; * chosen. Arms not listed take the rate of static if "
        "they have hard negatives, else that of in_batch."
    )
    if at_an_end:
        note += f" At an end of the sweep, beyond which a better rate may lie: {', '.join(at_an_end)}."
    return "Learning rates", note, ["arm", *(f"{rate:g}" for rate in rates)], rows


def _sweep_cell(trained: Trained | None, is_best: bool) -> str:
    return "" if trained is None else f"{trained.dev_score():.4f}{' *' if is_best else ''}"


def scores_section(part: PartResult, results: Results) -> Section:
    """Mean ± standard deviation over seeds of every arm, on every test set and on their mean."""
    rows = []
    start = results.scores(START)
    if start is not None:
        rows.append(["starting model", *(in_figures(value, None) for value in _with_mean(start, part.sets).values())])
    for arm, of_seed in part.tested.items():
        scores = [_with_mean(run, part.sets) for run in of_seed.values()]
        cells = (mean_and_spread([run[name] for run in scores]) for name in (*part.sets, MEAN))
        rows.append([seeds_label(arm, len(scores)), *(in_figures(*cell) for cell in cells)])
    note = (
        "test sets, which no choice has seen: nDCG@10 of retrieval, Spearman of stsb_en, accuracy of intents; mean ± "
        "standard deviation over seeds."
    )
    return f"Held-out scores, {part.part}", note, ["arm", *part.sets, MEAN], rows


def differences_section(part: PartResult) -> list[Section]:
    """Paired differences with intervals: of the main set and of the mean of all sets, then of every set by itself."""
    differences = part.differences
    if not differences:
        return []
    main, rows = part.sets[0], []
    for (arm, baseline), of_set in differences.items():
        cells: list[str] = []
        for name in (main, MEAN):
            found = of_set[name]
            by_seed = " ".join(f"{value:+.4f}" for value in found.by_seed)
            cells += [in_figures(found.mean, found.spread, sign="+"), by_seed, _interval(found), found.verdict]
        rows.append([f"{arm} − {baseline}", *cells])
    head = ["difference"]
    for name in (main, MEAN):
        head += [name, "by seed", f"{LEVEL:.0%} interval", "verdict"]
    note = (
        "paired by seed, mean ± standard deviation; the interval is a bootstrap over seeds and test queries. "
        f"significant: also at the level corrected for the {num_planned(part.part)} planned differences, on both "
        f"(Bonferroni); alone only: at {LEVEL:.0%} without that; no interval: only the set's score is known."
    )
    others = [
        [f"{arm} − {baseline}", *(f"{of_set[name].mean:+.4f} {_interval(of_set[name])}" for name in part.sets)]
        for (arm, baseline), of_set in differences.items()
    ]
    every = (f"Differences on every set, {part.part}", "mean, interval.", ["difference", *part.sets], others)
    return [(f"Differences, {part.part}", note, head, rows), every]


def cost_section(part: PartResult, histories: Mapping[str, Sequence[RunHistory]]) -> Section:
    """What the runs took, and what happened to the negatives."""
    rows = []
    for arm in part.tested:
        runs = histories[arm]
        seen = [_mean_total(runs, column) for column in ("num_tokens", "num_texts", "seconds")]
        dropped, replaced = (_mean_total(runs, name) for name in ("false_negatives_masked", "negatives_replaced"))
        steps = len(runs[0].step_P)
        watched = [_last_tenth(runs, f"negative_similarity_{what}") for what in ("start", "watched")]
        rows.append([
            seeds_label(arm, len(runs)), f"{part.rate_of[arm]:g}", str(steps), f"{seen[0] / steps:,.0f}",
            f"{seen[1] / steps:.0f}", f"{seen[2]:,.0f}", f"{replaced:,.0f}", f"{dropped:,.0f}", *watched,
        ])  # fmt: skip
    head = [
        "arm", "learning rate", "steps", "tokens/step", "texts/step", "seconds", "replaced", "masked in the loss",
        "S0, last tenth", "S, last tenth",
    ]  # fmt: skip
    note = "means over seeds; tokens and texts of unique texts; seconds of all steps, re-ranking included."
    return f"Cost and negatives, {part.part}", note, head, rows


def _mean_total(runs: Sequence[RunHistory], column: str) -> float:
    return float(np.mean([np.nansum(run.column(column)) for run in runs]))


def _last_tenth(runs: Sequence[RunHistory], column: str) -> str:
    """Mean of a column over the last tenth of the steps; empty if it is not known."""
    tails = [run.column(column)[-max(1, len(run.step_P) // 10) :] for run in runs]
    values = np.concatenate(tails)
    return f"{np.nanmean(values):.3f}" if np.isfinite(values).any() else ""


def _with_mean(scores: RunScores, sets: Sequence[str]) -> dict[str, float]:
    of_sets = {name: scores[name].score for name in sets}
    return {**of_sets, MEAN: float(np.mean(list(of_sets.values())))}


def _interval(found: Difference) -> str:
    return "" if found.low is None else f"[{found.low:+.4f}, {found.high:+.4f}]"


def _in_markdown(section: Section) -> str:
    title, note, head, rows = section
    return f"**{title}**: {note}\n\n{markdown_table(head, rows)}"


def _as_json(facts: Mapping[str, Any], results: Results, parts: Sequence[PartResult]) -> dict[str, Any]:
    runs = []
    for trained in results.all_trained():
        scores = results.scores(trained.run.name) or {}
        about = {"arm": trained.run.arm, "rate": trained.run.rate, "seed": trained.run.seed}
        test = {name: found.score for name, found in scores.items()}
        runs.append({**about, "seconds": trained.seconds, "dev": trained.dev, "test": test or None})
    differences = [
        {"part": part.part, "arm": arm, "baseline": baseline, "set": name, **asdict(found), "verdict": found.verdict}
        for part in parts
        for (arm, baseline), of_set in part.differences.items()
        for name, found in of_set.items()
    ]
    return {"facts": dict(facts), "runs": runs, "differences": differences}
