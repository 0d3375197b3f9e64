"""report.html: every figure has a text alternative; the page loads no other file and says which data are missing."""

from __future__ import annotations

import json
import re
from html import unescape
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure

from harness.mining.config import MiningConfig, build_rule
from harness.report.figures.catalogue import FIGURES, loss
from harness.report.figures.negatives import draw_fixed_thresholds, draw_replacements, negatives
from harness.report.figures.phases import mean_seconds
from harness.report.history import RunHistory, group
from harness.report.page import write_report
from harness.report.tables import overview, results
from tests.report_runs import V1, read, write_run

NAMES = [draw.__name__ for draw in FIGURES]
REPLACED_AT = (2, 3, 5)


def replacing(row: dict[str, Any]) -> dict[str, Any]:
    return {**row, "negatives_replaced": float(row["step"] if row["step"] in REPLACED_AT else 0)}


def page_of(runs: list[RunHistory], out: Path) -> str:
    return write_report(runs, out).read_text(encoding="utf-8")


def figure_of(page: str, name: str) -> str:
    found = re.search(rf'<figure id="{name}">(.*?)</figure>', page, re.DOTALL)
    assert found, name
    return found[1]


def alt_of(page: str, name: str) -> str:
    return unescape(re.findall(r'<img [^>]*alt="([^"]*)"', figure_of(page, name))[0])


def test_every_figure_stands_in_the_page_with_its_picture_its_file_and_words_for_it(tmp_path: Path) -> None:
    page = page_of([write_run(tmp_path / "run", rule=V1, change=replacing)], tmp_path / "out")
    for name in NAMES:
        png = (tmp_path / "out" / "figures" / f"{name}.png").read_bytes()
        assert png.startswith(b"\x89PNG")
        assert 'src="data:image/png;base64,' in figure_of(page, name)
        assert len(alt_of(page, name)) > 40
    assert "loss of the step, over step: run from 2 at 1 to 0.3333 at 6" in alt_of(page, "loss")


def test_losses_are_means_over_the_sizes_that_are_trained_and_the_page_says_so(tmp_path: Path) -> None:
    """A sum over three sizes reads as three times the loss of the same run with one."""
    three = write_run(tmp_path / "three", **{"model.matryoshka_dims": [8, 16, 32]})
    weighted = write_run(tmp_path / "w", **{"model.matryoshka_dims": [8, 16], "model.matryoshka_weights": [1, 0.5]})
    plain = write_run(tmp_path / "plain")
    text = loss(group([three, weighted, plain])).alt
    for name, first in (("three", "0.6667"), ("w", "1.333"), ("plain", "2")):
        assert f"{name} from {first} at 1" in text.replace(": ", " "), text
    assert "the sum over them" in loss(group([three])).caption
    assert "the sum over them" not in loss(group([plain])).caption


def test_a_loss_without_sizes_is_drawn_as_recorded(tmp_path: Path) -> None:
    """A third of teacher_cosine, which is computed once for all sizes, was drawn as its mean over them."""
    levels = {"model.matryoshka_dims": [8, 16, 32]}
    losses = {"tasks.faq.loss": ["info_nce", "teacher_cosine"], "tasks.similar.loss": "cosent"}
    picture = loss(group([write_run(tmp_path / "run", **levels, **losses)]))
    text = picture.alt.replace(": ", " ")
    for panel, first in (("loss of the step", "2"), ("task faq", "1.5"), ("task similar", "0.1667")):
        assert f"{panel}, over step run from {first} at 1" in text, text
    assert "no sizes (teacher_cosine), the sum is drawn as it is" in picture.caption


def test_the_evaluation_has_the_starting_models_score_as_a_line(tmp_path: Path) -> None:
    page = page_of([write_run(tmp_path / "run")], tmp_path / "out")
    assert "start from 0.25 at 0 to 0.25 at 6" in alt_of(page, "evaluation").replace(": ", " ")
    other = [write_run(tmp_path / "one", **{"mining.rule": "v2"}), write_run(tmp_path / "two", seed=1)]
    assert alt_of(page_of(other, tmp_path / "both"), "evaluation").count("start") == len(("faq", "similar"))


def test_nothing_in_the_page_is_requested_from_anywhere(tmp_path: Path) -> None:
    page = page_of([write_run(tmp_path / "run")], tmp_path / "run")
    addresses = re.findall(r'(?:src|href|action|data)\s*=\s*"([^"]*)"', page) + re.findall(r"url\(([^)]*)\)", page)
    assert addresses
    assert [one for one in addresses if not one.startswith(("data:", "#"))] == []
    assert not re.search(r"https?://|@import|<script", page)


def test_an_old_or_unfinished_run_says_what_was_not_recorded(tmp_path: Path) -> None:
    def old(row: dict[str, Any]) -> dict[str, Any]:
        return {key: row[key] for key in row if not key.startswith(("seconds/", "memory", "negative"))}

    page = page_of([write_run(tmp_path / "run", change=old, evaluated=False)], tmp_path / "run")
    missing = [name for name in NAMES if "Not recorded" in figure_of(page, name)]
    assert missing == ["evaluation", "matryoshka", "negatives", "phases", "memory"]
    assert "Not recorded: no evaluation yet" in page
    assert {path.stem for path in (tmp_path / "run" / "figures").iterdir()} == set(NAMES) - set(missing)


@pytest.mark.parametrize("steps", [0, 1])
def test_a_run_of_no_step_or_one_has_a_report(tmp_path: Path, steps: int) -> None:
    page = page_of([write_run(tmp_path / "run", steps=steps, rule=V1, evaluated=steps > 0)], tmp_path / "run")
    assert ("Not recorded" in figure_of(page, "loss")) == (steps == 0)


def test_a_task_that_a_step_does_not_hold_leaves_no_point(tmp_path: Path) -> None:
    """With loss.balance: alternate such a step has null. The curve must not show 0 or break there."""

    def alternate(row: dict[str, Any]) -> dict[str, Any]:
        return {**row, "loss/faq": row["loss/faq"] if row["step"] % 2 else None}

    picture = loss(group([write_run(tmp_path / "run", change=alternate)]))
    assert "task faq, over step: run from 1.5 at 1 to 0.3 at 5, between 0.3 and 1.5." in picture.alt


def test_the_marks_stand_at_the_steps_with_replacements_on_the_line(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", rule=V1, change=replacing)
    axes, strip = Figure().subplots(2)
    words = draw_replacements(axes, strip, group([run])[0], "black")
    marks = axes.collections[0]
    at = [(step, run.column("negative_similarity")[step - 1]) for step in REPLACED_AT]
    np.testing.assert_allclose(np.asarray(marks.get_offsets()), at)
    area = marks.get_sizes()
    assert area[0] < area[1] < area[2]
    bars = [segment[:, 1].max() for segment in strip.collections[0].get_segments()]
    assert bars == list(REPLACED_AT)  # at each of these steps as many negatives were replaced as the step's number
    assert words == "run: 10 negatives replaced at 3 steps, the first at 2, the last at 5."


def test_the_reasons_of_replacements_and_a_floor_that_was_found_are_drawn_and_said(tmp_path: Path) -> None:
    def with_reasons(row: dict[str, Any]) -> dict[str, Any]:
        too_hard = float(row["step"] == REPLACED_AT[-1])
        return {**replacing(row), "negatives_too_hard": too_hard, "negative_floor/faq": 0.25, "negative_quantile": 0.5}

    run = write_run(tmp_path / "run", rule=V1, change=with_reasons)
    axes, strip = Figure().subplots(2)
    words = draw_replacements(axes, strip, group([run])[0], "black")
    assert words.endswith("the last at 5; 1 of them were too hard, likely unlabelled positives.")
    bars = {lines.get_label(): lines.get_segments() for lines in strip.collections}
    assert [bar[:, 1].max() for bar in bars["of these: too hard"]] == [1.0]
    page = page_of([run], tmp_path / "page")
    assert "floor of faq, auto from 0.25 at 1" in alt_of(page, "negatives")
    assert "negatives' quantile" in alt_of(page, "similarity")
    assert re.search(r"of these: too hard, likely positives</th>\s*<td[^>]*>1<", page)


def test_static_and_dynamic_stand_in_the_same_axes(tmp_path: Path) -> None:
    runs = [write_run(tmp_path / "static"), write_run(tmp_path / "dynamic", rule=V1, change=replacing)]
    page = page_of(runs, tmp_path / "both")
    words = alt_of(page, "negatives")
    assert words.count("mean similarity") == 1
    assert "S, static from 0.499 at 1" in words
    assert "S, dynamic from 0.499 at 1" in words
    assert "S0 from 0.5 at 1" in words
    assert "S0 / 1.15 from 0.4348 at 1" in words
    assert all(name in alt_of(page, "loss") for name in ("static", "dynamic"))
    settings = page[page.index("Where the recipes differ") :]
    assert re.findall(r'<th scope="row">([^<]*)</th>', settings[: settings.index("<details>")]) == ["mining.rule"]


def test_a_limit_far_from_the_curves_is_said_and_not_drawn() -> None:
    axes = Figure().subplots()
    axes.plot([1, 2], [0.45, 0.5])
    said = draw_fixed_thresholds(axes, build_rule(MiningConfig(rule="v2", ceiling=0.8, floor=0.44)))
    assert said == ["Outside the picture: S below 0.8 only."]
    assert [line.get_ydata()[0] for line in axes.lines[1:]] == [0.44]
    assert axes.lines[1].get_label() == "S0 below 0.44: replaced at once"


def test_missing_starts_are_no_zeros(tmp_path: Path) -> None:
    """A step without watched negatives reports 0 for S0. The curve must not show this 0."""

    def sometimes(row: dict[str, Any]) -> dict[str, Any]:
        return {**row, "negative_similarity_start": 0.5 if row["step"] % 2 else 0.0}

    picture = negatives(group([write_run(tmp_path / "run", rule=V1, change=sometimes)]))
    assert "S0 from 0.5 at 1 to 0.5 at 5, between 0.5 and 0.5;" in picture.alt


def test_the_phases_of_a_step_add_up_to_its_seconds(tmp_path: Path) -> None:
    seconds = mean_seconds(group([write_run(tmp_path / "run")])[0])
    assert seconds.pop("communication") == pytest.approx(0.1)  # communication is part of the other phases
    assert sum(seconds.values()) == pytest.approx(1.0)
    assert seconds["other"] == pytest.approx(1.0 - 6 * 0.1)


def test_results_are_given_before_and_after_with_the_spread_over_seeds(tmp_path: Path) -> None:
    groups = group([write_run(tmp_path / f"run{seed}", seed=seed) for seed in (0, 1, 2)])
    first = results(groups, all_metrics=False)[0]
    assert (first.dataset, first.metric, first.group) == ("faq", "ndcg_at_10", "run, 3 seeds")
    assert (first.before, first.after, first.change) == ("0.2500 ± 0.0000", "0.6000 ± 0.1000", "+0.3500 ± 0.1000")
    assert [one.metric for one in results(groups, all_metrics=True)][:3] == [
        "ndcg_at_10", "ndcg_at_10@8", "ndcg_at_10@16",
    ]  # fmt: skip


def test_the_result_of_a_run_that_chose_its_best_step_is_that_step(tmp_path: Path) -> None:
    """The last evaluation may be of weights that are not in model/."""
    write_run(tmp_path / "run")
    entries = json.loads((tmp_path / "run" / "evaluation.json").read_text())
    better = {"step": 3, "dataset": "faq", "metrics": {"ndcg_at_10": 0.875}}
    (tmp_path / "run" / "evaluation.json").write_text(json.dumps([*entries, better]))
    facts = {"name": "run", "steps": 6, "best": {"step": 3, "metric": "faq/ndcg_at_10", "score": 0.875}}
    (tmp_path / "run" / "run.json").write_text(json.dumps(facts))
    run = read(tmp_path / "run")
    assert [row.after for row in results(group([run]), all_metrics=False) if row.dataset == "faq"] == ["0.8750"]
    assert overview([run]).common["model of step"] == "3"


def test_a_run_without_a_second_evaluation_has_no_result_yet(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", steps=0)
    first = results(group([run]), all_metrics=False)[0]
    assert (first.before, first.after, first.change) == ("0.5000", "–", "–")


def test_names_are_text_and_no_markup(tmp_path: Path) -> None:
    page = page_of([write_run(tmp_path / "run", **{"model.name": "<b>&</b>"})], tmp_path / "run")
    assert "&lt;b&gt;&amp;&lt;/b&gt;" in page
    assert "<b>" not in page


def test_a_report_takes_the_place_of_an_earlier_one(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run")
    page_of([run], tmp_path / "out")
    shorter = write_run(tmp_path / "shorter", evaluated=False)
    page_of([shorter], tmp_path / "out")
    assert not (tmp_path / "out" / "figures" / "evaluation.png").exists()
