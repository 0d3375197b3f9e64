"""The plan of the evidence: what runs when, with which rate and how many steps, and what the arms have in common."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from benchmarks.evidence import plan
from benchmarks.evidence.arms import (
    BANKS,
    CURVE,
    MARGIN,
    MIXTURE,
    NEGATIVES,
    NUM_TASKS,
    RELATIVE,
    SIZES,
    VISITS,
    NegativesArm,
)
from benchmarks.evidence.plan import best_rate, chosen_rate, flat_step, num_runs, stages, steps_of_runs
from benchmarks.evidence.recipes import Place, Run, recipe
from harness.config import RunConfig
from harness.data.plan.draw import draws_per_turn, turn
from harness.mining.config import build_rule
from harness.settings.recipe_file import build

SIZE = SIZES["small"]
PLACE = Place(Path("/root"), Path("/out"), "/out/models/cut3")


@pytest.fixture(autouse=True)
def _every_rule(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plan, "_refusal", lambda mining: None)


def dev(run: Run) -> float:
    """The second rate is best for in_batch, the highest for static, the lowest for all others."""
    best = {"in_batch": 1, "static": -1}.get(run.arm, 0)
    return 0.9 if run.rate == plan.rates_of(run.arm, SIZE)[best] else 0.5


def planned(**options: Any) -> list[list[tuple[str, float, int, bool]]]:
    given = {"size": SIZE, "seeds": [0, 1, 2], "parts": ("negatives", "mixture"), "wanted": None, "dev": dev}
    return [[(p.run.arm, p.run.rate, p.run.seed, p.tested) for p in stage] for stage in stages(**given | options)]


def test_first_the_curve_then_rates_then_all_arms_of_a_seed_then_the_next_seed_then_mixtures() -> None:
    found = planned()
    assert [stage[0][0] for stage in found] == [CURVE, "in_batch", "in_batch", "in_batch", "in_batch", "cbb", "cbb", "cbb", "cbb"]  # fmt: skip # noqa: E501
    assert [{seed for _, _, seed, _ in stage} for stage in found] == [{0}, {0}, {0}, {1}, {2}, {0}, {0}, {1}, {2}]
    assert [{tested for *_, tested in stage} for stage in found] == [{t} for t in (0, 0, 1, 1, 1, 0, 1, 1, 1)]
    arms = [arm for arm, *_ in found[2]]
    assert arms[:7] == ["in_batch", "static", "static_filtered", "v1", "v2", "v2_reranked", "relative"]
    assert set(arms) == set(NEGATIVES)
    assert [arm for arm, *_ in found[6]] == list(MIXTURE)


def test_each_rate_is_the_best_one_on_the_dev_set_of_the_arm_that_chooses_it() -> None:
    second, high = SIZE.rates[1], SIZE.rates[-1]
    rate_of = {arm: rate for arm, rate, _, tested in planned()[3] if tested}
    assert rate_of["in_batch"] == second
    assert {rate for arm, rate in rate_of.items() if not arm.startswith("in_batch")} == {high}  # static's
    assert {rate for _, rate, *_ in planned()[7]} == {SIZE.mixture.rates[0]}
    assert best_rate({1e-3: 0.5, 2e-4: 0.5, 5e-4: 0.4}) == 2e-4


def test_at_the_size_gpu_every_arm_chooses_its_own_rate() -> None:
    size = SIZES["gpu"]
    assert chosen_rate("v2", size, lambda run: float(run == Run("v2", size.rates[0], 0))) == size.rates[0]
    swept = {run.arm for run in plan.sweep("negatives", plan.arms_of("negatives"), size)}
    assert swept == set(NEGATIVES)


def test_the_number_of_runs_counts_a_run_of_a_sweep_that_is_tested_once() -> None:
    for seeds, parts in (([0, 1, 2], ("negatives", "mixture")), ([1], ("negatives",)), ([0], ("mixture",))):
        runs = {run[:3] for stage in planned(seeds=seeds, parts=parts) for run in stage}
        assert num_runs(SIZE, seeds, parts) == len(runs)


def test_only_the_wanted_runs_and_what_chooses_their_rates_are_planned() -> None:
    found = planned(wanted=[("v2", 5), ("cbb", 1)])
    tested = [(arm, seed) for stage in found for arm, _, seed, is_tested in stage if is_tested]
    assert tested == [("v2", 5), ("cbb", 1)]
    assert {arm for stage in found for arm, *_, is_tested in stage if not is_tested} == {CURVE, "static", "cbb"}


def test_an_arm_with_the_tokens_of_another_waits_for_the_runs_that_count_them() -> None:
    found = planned(wanted=[("in_batch_as_static", 1)])
    assert {arm for stage in found for arm, *_, tested in stage if not tested} == {CURVE, "in_batch", "static"}
    assert NEGATIVES["in_batch_as_static"].tokens_of == "static"


def test_an_arm_whose_rule_this_version_lacks_is_left_out_with_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()  # the real check
    monkeypatch.setitem(NEGATIVES, "relative", NegativesArm({"rule": "unheard_of"}))
    assert "relative" not in {arm for stage in planned() for arm, *_ in stage}
    reason = plan.reason_to_skip("relative")
    assert reason is not None
    assert reason.startswith("relative: not run, this version refuses mining rule: unheard_of (")
    assert plan.reason_to_skip("static") is plan.reason_to_skip("v2_reranked") is plan.reason_to_skip("cbb") is None


def test_a_curve_is_flat_from_the_step_on_after_which_nothing_is_gained() -> None:
    assert flat_step({50: 0.3, 100: 0.5, 150: 0.6, 200: 0.604, 250: 0.59, 300: 0.603}) == 150
    assert flat_step({50: 0.3, 100: 0.5, 150: 0.6}) is None
    assert flat_step({50: 0.6, 100: 0.601, 150: 0.7}) is None  # a late rise counts
    assert flat_step({50: 0.6, 100: 0.6}) is None  # two evaluations must follow


def test_the_runs_go_past_the_flat_part_within_the_limits_of_the_size() -> None:
    rising = {step: step / 1000 for step in range(50, 401, 50)}
    assert steps_of_runs(rising, SIZE) == SIZE.most_steps
    flat_at = {50: 0.1, SIZE.least_steps: 0.6, SIZE.least_steps + 50: 0.6, SIZE.least_steps + 100: 0.6}
    assert SIZE.least_steps <= steps_of_runs(flat_at, SIZE) <= SIZE.most_steps
    at_once = {50: 0.6, 100: 0.6, 150: 0.6}
    assert steps_of_runs(at_once, SIZE) == SIZE.least_steps


@pytest.mark.parametrize("name", SIZES)
def test_every_query_is_used_often_enough_to_go_stale(name: str) -> None:
    size = SIZES[name]
    rows = size.data.rows or 22_689  # of the packages pinned in constraints.txt
    assert size.least_steps * size.quota >= VISITS * rows
    if name != "tiny":  # between two re-rankings queries come twice, so that the rule has something to judge
        assert size.most_steps // 4 * size.quota > 1.5 * rows
    assert size.mixture.turns % NUM_TASKS == 0  # so that every task has all its turns in every arm


def config_of(arm: str, monkeypatch: pytest.MonkeyPatch) -> RunConfig:
    content = recipe(Run(arm, 1e-3, 1), SIZE, 320, 88, PLACE)
    if arm.startswith("relative") or arm == "v2_auto":  # with settings that may not be here yet
        content["mining"] = {"rule": "v2", "remine": content["mining"].get("remine", {})}
    return build(RunConfig, content, "recipe")


def test_arms_of_negatives_differ_in_their_negatives_only(monkeypatch: pytest.MonkeyPatch) -> None:
    def rest(arm: str) -> Any:
        return config_of(arm, monkeypatch).model_dump(exclude={"name", "output", "mining", "tasks"})

    for arm in NEGATIVES:
        (task,) = config_of(arm, monkeypatch).tasks
        assert rest(arm) == rest("static")
        assert (task.quota, task.negatives.per_query) == (
            (88, 0) if NEGATIVES[arm].bank is None else (SIZE.quota, SIZE.per_query)
        )
        assert NEGATIVES[arm].bank is None or NEGATIVES[arm].bank in BANKS


def test_a_filtered_arm_filters_its_bank_its_rerankings_and_its_loss_and_no_other_does(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for arm, settings in NEGATIVES.items():
        config = config_of(arm, monkeypatch)
        negatives = config.tasks[0].negatives
        assert negatives.margin == (MARGIN if settings.filtered else None)
        assert config.mining.remine.relative == (RELATIVE if settings.filtered and settings.reranked else None)
        assert config.mining.remine.every == (80 if settings.reranked else 0)
        assert settings.filtered == arm.endswith("_filtered")
        if settings.filtered:
            assert negatives.bank == "/out/banks/start_filtered"
            assert BANKS["start_filtered"] == (False, True)


def test_static_negatives_are_watched_and_never_judged(monkeypatch: pytest.MonkeyPatch) -> None:
    for arm in ("static", "static_filtered", "teacher", "reranked", "reranked_filtered"):
        rule = build_rule(config_of(arm, monkeypatch).mining)
        assert rule is not None
        assert not any(rule.judges_after(step) for step in range(1, 320))
    v1 = build_rule(config_of("v1", monkeypatch).mining)
    assert v1 is not None
    assert v1.interval == SIZE.v1_interval


def test_the_curve_is_in_batch_at_a_constant_rate_and_dev_data_alone_is_scored_in_training() -> None:
    curve, run = (
        recipe(Run(CURVE, 1e-3, 0), SIZE, 800, 88, PLACE),
        recipe(Run("in_batch", 1e-3, 0), SIZE, 800, 88, PLACE),
    )
    assert curve["tasks"] == run["tasks"]
    assert (curve["training"]["schedule"], run["training"]["schedule"]) == ("constant", "linear")
    for arm in (*NEGATIVES, *MIXTURE):
        content = recipe(Run(arm, 1e-3, 0), SIZE, 320, 88, PLACE)
        tests = {str(path) for path in PLACE.sets(Run(arm, 1e-3, 0).part).test.values()}
        assert not set(content["evaluation"]["data"]) & tests


def test_every_mixture_trains_on_the_same_number_of_examples_of_each_task_and_control_has_cbbs_steps() -> None:
    for arm in MIXTURE:
        content = recipe(Run(arm, 1e-3, 0), SIZE, 0, 0, PLACE)
        config = build(RunConfig, content, "recipe")

        class Drawn:  # what `draws_per_turn` reads of a task
            def __init__(self, task: Any) -> None:
                self.config, self.quota = task, task.quota

        tasks: Any = [Drawn(task) for task in config.tasks]
        seen: Counter[str] = Counter()
        for index, task in enumerate(config.tasks):
            count, place, quotas = draws_per_turn(tasks, index, config.loss.balance)
            for step in range(1, config.training.num_steps + 1):
                if place is None or turn(quotas, config.loss.balance, 0, step)[0] == place:
                    seen[task.name] += count
        assert set(seen.values()) == {SIZE.mixture.examples * SIZE.mixture.turns}, arm
        assert len(seen) == NUM_TASKS
    contents = {arm: recipe(Run(arm, 1e-3, 0), SIZE, 0, 0, PLACE) for arm in ("cbb", "cbb_step")}
    scopes = {
        arm: {task.get("negatives", {}).get("scope") for task in content["tasks"]} for arm, content in contents.items()
    }
    assert scopes == {"cbb": {"task", None}, "cbb_step": {"step", None}}
    assert MIXTURE["control"].steps(200) == MIXTURE["cbb"].steps(200) == 200
