"""The result of the evidence, from made-up finished runs: means, spreads, paired differences, intervals, verdicts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from benchmarks.evidence import figures
from benchmarks.evidence.arms import CURVE, MIXTURE, NEGATIVES, SIZES, Part
from benchmarks.evidence.plan import PARTS
from benchmarks.evidence.recipes import Place, Run, recipe
from benchmarks.evidence.results import Trained
from benchmarks.evidence.statistics import LEVEL, MEAN, RESAMPLES, Difference, Scores, difference
from benchmarks.evidence.tables import differences_of, num_planned, write_tables
from harness.report.figures.drawing import Panel, look_of
from tests.tiny import write_jsonl

SIZE, QUERIES = SIZES["small"], 400
SETS: dict[Part, list[str]] = {
    "negatives": ["docstrings_test", "stackfaq_en"],
    "mixture": ["docstrings_test", "stsb_en"],
}
FACTS: dict[str, Any] = {
    "model": "cut3",
    "in_batch_quota": 88,
    "rows": {"docstrings": {"training queries": 2000}},
    "packages": {"train": {"torch": {"version": "2.13.0", "docstrings": 2813}}, "dev": {}, "test": {}},
}


def scores(gain: float, seed: int, spread_of_gain: float = 0.05) -> dict[str, Scores]:
    """Scores of a run: the queries' own difficulty, the seed's luck, and a gain that differs from query to query."""
    difficulty_Q = np.random.default_rng(0).random(QUERIES)
    noise_Q = np.random.default_rng((seed, round(1e4 * gain) + 10**6)).normal(gain, spread_of_gain, QUERIES)
    value_Q = difficulty_Q + 0.02 * seed + noise_Q
    return {name: Scores(float(value_Q.mean()), value_Q) for name in SETS["negatives"]}


def runs(gain: float, seeds: tuple[int, ...] = (0, 1, 2), **options: float) -> dict[int, dict[str, Scores]]:
    return {seed: scores(gain, seed, **options) for seed in seeds}


def test_a_difference_is_paired_by_seed_and_its_spread_is_that_of_the_seeds() -> None:
    better, base = runs(0.03), runs(0.0, (0, 1, 2, 5))  # the arm has no run with seed 5
    found = difference(better, base, ["docstrings_test"], 1)
    by_seed = [better[s]["docstrings_test"].score - base[s]["docstrings_test"].score for s in (0, 1, 2)]
    assert found.by_seed == pytest.approx(by_seed)
    assert found.mean == pytest.approx(sum(by_seed) / 3)
    assert found.spread == pytest.approx(np.std(by_seed, ddof=1))


def test_the_mean_of_the_sets_weighs_every_set_alike_whatever_its_queries() -> None:
    def run(values: list[float], whole: float) -> dict[str, Scores]:
        return {"a": Scores(float(np.mean(values)), np.array(values)), "b": Scores(whole, np.array([whole]))}

    found = difference({0: run([1, 1, 1, 1], 0.5)}, {0: run([0, 0, 0, 0], 0.3)}, ["a", "b"], 1)
    assert found.mean == pytest.approx((1 + 0.2) / 2)


def test_the_interval_has_the_width_that_normal_theory_gives_it() -> None:
    """Independent query differences of a known spread: half the interval is 1.96 standard errors."""
    rng, num_seeds = np.random.default_rng(3), 12
    arm = {s: {"a": Scores(0, rng.normal(0.0, 1.0, 300))} for s in range(num_seeds)}
    base = {s: {"a": Scores(0, np.zeros(300))} for s in range(num_seeds)}
    found = difference(arm, base, ["a"], 1)
    assert found.low is not None
    assert found.high is not None
    standard_error = np.sqrt(3 / (300 * num_seeds))  # seeds, queries and their pairs each count: Owen 2007
    assert (found.high - found.low) / 2 == pytest.approx(1.96 * standard_error, rel=0.15)


def test_a_difference_of_seeds_alone_is_in_the_interval_too() -> None:
    """All queries of a seed gain alike, so that only drawing seeds gives the interval a width."""
    gains = {0: -0.02, 1: 0.03, 2: 0.02}
    base = {seed: {"a": Scores(0.5, np.full(50, 0.5))} for seed in gains}
    arm = {seed: {"a": Scores(0.5 + gain, np.full(50, 0.5 + gain))} for seed, gain in gains.items()}
    found = difference(arm, base, ["a"], 1)
    assert (found.low, found.high) == (pytest.approx(-0.02), pytest.approx(0.03))
    assert found.verdict == "not significant"


def test_what_is_not_significant_is_called_that_and_one_seed_says_nothing() -> None:
    base = runs(0.0)
    assert difference(runs(0.03), base, ["docstrings_test"], 10).verdict == "significant"
    assert difference(runs(-0.03), base, ["docstrings_test"], 10).verdict == "significant"
    assert difference(runs(0.001, spread_of_gain=0.3), base, ["docstrings_test"], 10).verdict == "not significant"
    one = difference(runs(0.03, (1,)), base, ["docstrings_test"], 10)
    assert (one.verdict, one.spread, one.low) == ("one seed", None, None)
    assert Difference(0.1, [], 0.1, 0.01, 0.2, -0.01, 0.2).verdict == "alone only"


def test_more_comparisons_widen_the_corrected_interval_only() -> None:
    few, many = (difference(runs(0.03), runs(0.0), ["docstrings_test"], count) for count in (1, 30))
    assert (few.low, few.high) == (many.low, many.high)
    assert (few.corrected_low, few.corrected_high) == (few.low, few.high)
    assert many.corrected_low is not None
    assert few.corrected_low is not None
    assert many.corrected_low < few.corrected_low


def test_seeds_of_one_sign_are_no_evidence_where_only_the_score_of_a_set_is_known() -> None:
    """Drawn from three seeds alone, the smallest mean is that of the smallest seed in 1 of 27 draws: every corrected
    interval would be (smallest, largest), and a quarter of all differences of nothing would be called significant."""
    base = {seed: {"a": Scores(0.5, np.array([0.5])), "b": scores(0, seed)["docstrings_test"]} for seed in (0, 1, 2)}
    arm = {
        seed: {"a": Scores(0.5 + gain, np.array([0.5 + gain])), "b": base[seed]["b"]}
        for seed, gain in enumerate((0.001, 0.01, 0.02))
    }
    for names in (["a"], ["a", "b"]):
        found = difference(arm, base, names, 30)
        assert (found.verdict, found.low, found.corrected_high) == ("no interval", None, None)
        assert found.by_seed == pytest.approx([gain / len(names) for gain in (0.001, 0.01, 0.02)])
        assert found.spread is not None


def test_verdicts_are_corrected_for_every_planned_difference_on_both_shown_sets_from_the_first_look_on() -> None:
    tested = {"in_batch": runs(0.0), "static": runs(0.03)}
    sets = SETS["negatives"]
    found = differences_of("negatives", tested, sets)["static", "in_batch"]
    assert num_planned("negatives") == sum(len(arm.baselines) for arm in NEGATIVES.values()) > 40
    for label, names, judged in ((sets[0], sets[:1], 2), (MEAN, sets, 2), (sets[1], sets[1:], 3)):
        expected = difference(runs(0.03), runs(0.0), names, judged * num_planned("negatives"))
        assert found[label] == expected


@pytest.mark.parametrize("part", PARTS)
def test_several_resamples_lie_outside_a_corrected_interval(part: Part) -> None:
    assert RESAMPLES * (1 - LEVEL) / 2 / (2 * num_planned(part)) > 5


def test_every_arm_is_compared_with_its_baselines_that_share_a_seed() -> None:
    tested = {"in_batch": runs(0.0), "static": runs(0.01, (0,)), "v2": runs(0.02, (1, 2))}
    assert list(differences_of("negatives", tested, SETS["negatives"])) == [("static", "in_batch"), ("v2", "in_batch")]
    assert set(NEGATIVES["v2"].baselines) == {"in_batch", "static"}


def write_run(out: Path, run: Run, dev: float, gain: float | None) -> None:
    """A finished run: trained/, runs/ and, with a gain, scores/."""
    steps = SIZE.curve_steps if run.arm == CURVE else 4
    folder = out / "runs" / run.name
    place = Place(Path("/root"), out, "demo-minilm")
    folder.mkdir(parents=True)
    (folder / "recipe.yaml").write_text(yaml.safe_dump(recipe(run, SIZE, steps, 88, place)))
    has_negatives = run.arm not in (CURVE, "in_batch", "cbb")
    row = {"loss": 1.0, "num_tokens": 100.0, "num_texts": 10.0, "seconds": 2.0, "false_negatives_masked": 0.0}
    row |= {"negatives_replaced": 3.0 if run.arm == "v2" else 0.0, "negatives_exhausted": 0.0}
    similarity = {"negative_similarity_watched": 0.4, "negative_similarity_start": 0.5} if has_negatives else {}
    write_jsonl(folder / "metrics.jsonl", [{"step": step, **row, **similarity} for step in range(1, 5)])
    curve = {0: 0.2, 2: 0.3, 4: dev} if run.arm != CURVE else {0: 0.2, 50: 0.5, 100: 0.6, 150: 0.6, 200: 0.6}
    about = {"arm": run.arm, "rate": run.rate, "seed": run.seed, "seconds": 8.0}
    about["dev"] = {step: {"docstrings_dev": score} for step, score in curve.items()}
    file = out / "trained" / f"{run.name}.json"
    file.parent.mkdir(exist_ok=True)
    file.write_text(json.dumps(about))
    if gain is not None:
        write_scores(out, run.name, scores(gain, run.seed))


def write_scores(out: Path, name: str, found: dict[str, Scores]) -> None:
    values = {n: {"metric": "ndcg_at_10", "score": s.score, "values": s.value_Q.tolist()} for n, s in found.items()}
    file = out / "scores" / f"{name}.json"
    file.parent.mkdir(exist_ok=True)
    file.write_text(json.dumps({"datasets": values}))


@pytest.fixture
def experiment(tmp_path: Path) -> Path:
    """The curve, both sweeps (0.0005 is the best rate of both), and runs of three arms."""
    write_run(tmp_path, Run(CURVE, 5e-4, 0), 0, None)
    for arm in ("in_batch", "static"):
        for rate in SIZE.rates:
            best = rate == 5e-4
            gain = {"in_batch": 0.0, "static": 0.03}[arm] if best else None
            write_run(tmp_path, Run(arm, rate, 0), 0.6 if best else 0.5, gain)
        write_run(tmp_path, Run(arm, 5e-4, 1), 0.6, {"in_batch": 0.0, "static": 0.03}[arm])
    write_run(tmp_path, Run("v2", 5e-4, 0), 0.6, 0.031)
    write_scores(tmp_path, "start", scores(-0.1, 0))
    return tmp_path


def test_what_is_finished_is_written_as_table_json_and_figures(experiment: Path) -> None:
    shown = write_tables(experiment, FACTS, SIZE, SETS)
    assert shown + "\n" == (experiment / "result.md").read_text()
    assert "torch 2.13.0 (2,813)" in shown
    assert "no gain above 0.005 after step 100" in shown
    assert "| in_batch | 0.5000 | 0.5000 | 0.6000 * | 0.5000 |" in shown
    assert "| static, 2 seeds |" in shown
    assert "static − in_batch" in shown
    assert "| one seed |" in next(line for line in shown.splitlines() if line.startswith("| v2 − static"))
    assert "Held-out scores, mixture" not in shown  # nothing of it is finished
    assert "nan" not in shown
    assert f"corrected for the {num_planned('negatives')} planned differences, on both" in shown
    cost = next(line for line in shown.splitlines() if line.startswith("| v2, 1 seed") and "0.500" in line)
    assert cost == "| v2, 1 seed | 0.0005 | 4 | 100 | 10 | 8 | 12 | 0 | 0.500 | 0.400 |"
    for name in ("curve", "unfiltered", "negatives"):
        assert (experiment / "figures" / f"{name}.png").read_bytes().startswith(b"\x89PNG")
    result = json.loads((experiment / "result.json").read_text())
    found = next(d for d in result["differences"] if (d["arm"], d["set"]) == ("static", MEAN))
    assert found["mean"] == pytest.approx(0.03, abs=0.01)
    assert len(found["by_seed"]) == 2
    untested = {(run["arm"], run["rate"]) for run in result["runs"] if run["test"] is None}
    others = [rate for rate in SIZE.rates if rate != 5e-4]
    assert untested == {(CURVE, 5e-4), *((arm, rate) for arm in ("in_batch", "static") for rate in others)}


def test_a_picture_shows_no_two_arms_in_one_colour_and_no_arm_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[Panel] = []
    monkeypatch.setattr(figures, "line_picture", lambda name, title, caption, panels: drawn.extend(panels))
    arms = [*NEGATIVES, *MIXTURE]
    runs_of_arm = {arm: [Trained(Run(arm, 5e-4, 0), {0: {"dev": 0.1}, 4: {"dev": 0.2}}, 1.0)] for arm in arms}
    figures.evaluations(runs_of_arm)
    assert {line.label for panel in drawn for line in panel.lines} == set(arms)
    for panel in drawn:
        colours = [look_of(line.position)["color"] for line in panel.lines if line.position is not None]
        assert len(set(colours)) == len(panel.lines)


def test_an_arm_that_chooses_an_end_of_its_sweep_is_named(experiment: Path) -> None:
    """It may lose by its rate. cbb chooses the highest one, in_batch and static one in the middle."""
    assert "At an end of the sweep" not in write_tables(experiment, FACTS, SIZE, SETS)
    for rate in SIZE.mixture.rates:
        write_run(experiment, Run("cbb", rate, 0), 0.5 + rate, None)
    assert "beyond which a better rate may lie: cbb." in write_tables(experiment, FACTS, SIZE, SETS)


def test_an_arm_whose_rates_are_not_all_tried_has_no_score_yet(experiment: Path) -> None:
    (experiment / "trained" / "static-0.001-0.json").unlink()
    shown = write_tables(experiment, FACTS, SIZE, SETS)
    assert "| in_batch, 2 seeds |" in shown
    assert "static, 2 seeds" not in shown
    assert "v2, 1 seed" not in shown


def test_without_a_finished_run_the_table_says_so(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no run is finished"):
        write_tables(tmp_path, FACTS, SIZE, SETS)
