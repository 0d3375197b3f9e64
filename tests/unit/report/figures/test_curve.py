"""Curves of a report: they have a limited number of points, equal the recorded values, and skip missing values."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from harness.report.figures.curve import MAX_MARKS, MAX_POINTS, counts, curve, curve_of_points, smoothed
from harness.report.history import RunHistory, different_settings, group
from tests.report_runs import V1, read, write_run

EMPTY = RunHistory(Path("run"), "run", {}, None, {}, np.empty(0, np.int64), {}, [])


def history(**columns: list[float]) -> RunHistory:
    steps = np.arange(1, 1 + len(next(iter(columns.values()))))
    return replace(EMPTY, step_P=steps, columns={name: np.array(column) for name, column in columns.items()})


def test_few_steps_are_points_of_their_own_and_nulls_are_left_out() -> None:
    found = curve([history(loss=[3.0, np.nan, 1.0, np.nan])], "loss")
    assert (found.x_P.tolist(), found.mean_P.tolist()) == ([1, 3], [3.0, 1.0])
    assert np.isnan(found.low_P).all()


@pytest.mark.parametrize("num_steps", [MAX_POINTS, MAX_POINTS + 1, 7 * MAX_POINTS + 3, 100_000])
def test_many_steps_become_bins_with_their_mean_lowest_and_highest(num_steps: int) -> None:
    generator = np.random.default_rng(0)
    value_P = generator.normal(size=num_steps)
    value_P[generator.random(num_steps) < 0.3] = np.nan
    found = curve([history(loss=value_P.tolist())], "loss")
    width = int(np.ceil(num_steps / MAX_POINTS))
    bins = [value_P[first : first + width] for first in range(0, num_steps, width)]
    bins = [bin_values[np.isfinite(bin_values)] for bin_values in bins if np.isfinite(bin_values).any()]
    assert len(found) == len(bins) <= MAX_POINTS
    np.testing.assert_allclose(found.mean_P, [bin_values.mean() for bin_values in bins], rtol=1e-9, atol=1e-12)
    if width > 1:
        assert found.low_P.tolist() == [bin_values.min() for bin_values in bins]
        assert found.high_P.tolist() == [bin_values.max() for bin_values in bins]


def test_several_seeds_are_a_mean_with_the_standard_deviation_of_a_sample() -> None:
    seeds = [history(loss=[1.0, 4.0, 5.0]), history(loss=[3.0, 6.0]), history(loss=[2.0, np.nan])]
    found = curve(seeds, "loss")
    np.testing.assert_allclose(found.mean_P, [2.0, 5.0, 5.0])
    np.testing.assert_allclose(found.high_P - found.mean_P, [np.std([1, 3, 2], ddof=1), np.std([4, 6], ddof=1), np.nan])


def test_a_column_that_was_not_recorded_and_a_run_without_steps_give_no_points() -> None:
    assert len(curve([history(loss=[1.0])], "memory_bytes")) == 0
    assert len(curve([EMPTY], "loss")) == 0
    assert len(curve_of_points([{}])) == 0


def test_counts_are_the_steps_that_have_any() -> None:
    seeds = [history(n=[0.0, 4.0, np.nan, 2.0]), history(n=[0.0, 2.0, 6.0, 0.0])]
    step_P, count_P = counts(seeds, "n")
    assert (step_P.tolist(), count_P.tolist()) == ([2, 3, 4], [3.0, 3.0, 1.0])


def test_counts_at_too_many_steps_keep_their_sum_and_stay_within_the_run() -> None:
    step_P, count_P = counts([history(n=[1.0] * 10_001)], "n")
    assert len(step_P) <= MAX_MARKS
    assert count_P.sum() == 10_001
    assert 1 <= step_P.min() <= step_P.max() <= 10_001 + 10_001 / MAX_POINTS


def test_runs_that_differ_in_the_seed_only_are_one_group(tmp_path: Path) -> None:
    runs = [write_run(tmp_path / f"static_seed{seed}", seed=seed) for seed in (0, 1)]
    runs += [write_run(tmp_path / "v1", rule=V1)]
    groups = group(runs)
    assert [(one.label, len(one.runs)) for one in groups] == [("static, 2 seeds", 2), ("v1", 1)]
    assert different_settings(groups) == {"mining.rule": ["none", "v1"]}


def test_groups_of_the_same_name_are_told_apart_by_their_folders(tmp_path: Path) -> None:
    runs = [replace(write_run(tmp_path / place, loss=i), name="demo") for i, place in enumerate(("a", "b", "x/b"))]
    assert [one.label for one in group(runs)] == ["a", "b", "b (3)"]


def test_reading_a_run_that_is_being_written_changes_nothing_and_drops_the_torn_line(tmp_path: Path) -> None:
    write_run(tmp_path / "run", steps=3)
    file = tmp_path / "run" / "metrics.jsonl"
    torn = file.read_bytes()[:-20]
    file.write_bytes(torn)
    assert read(tmp_path / "run").step_P.tolist() == [1, 2]
    assert file.read_bytes() == torn


def test_a_smoothed_line_is_the_mean_of_neighbours_and_does_not_bend_a_slope_at_its_ends() -> None:
    value_P = np.random.default_rng(0).normal(size=100)
    raw = curve([history(loss=value_P.tolist())], "loss")
    found = smoothed(raw)
    assert found.x_P.tolist() == raw.x_P.tolist()
    for point in range(5, 95):
        np.testing.assert_allclose(found.mean_P[point], value_P[point - 5 : point + 6].mean(), atol=1e-12)
    assert found.mean_P.std() < value_P.std() / 2
    straight = curve([history(loss=list(range(30)))], "loss")
    np.testing.assert_allclose(smoothed(straight).mean_P, straight.mean_P, atol=1e-9)
    assert len(smoothed(curve([history(loss=[1.0, 2.0, 3.0])], "loss"))) == 0
