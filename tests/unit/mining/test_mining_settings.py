"""Settings of `mining` that do not fit each other are refused in one line: what came, what is expected, which knob."""

from __future__ import annotations

import re
from types import SimpleNamespace

import pytest

from harness.config import RunConfig
from harness.mining.config import MiningConfig, build_rule
from harness.mining.ineffective_settings import late_floor_message
from harness.mining.judging.words import mining_lines
from harness.run.tasks import check_settings
from harness.settings.recipe_file import build
from harness.types import StepPlan
from tests.dynamic_run import NO_TEXTS, Run

TASK = {"name": "faq", "kind": "retrieval", "path": "faq.jsonl", "quota": 8}


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (
            {"rule": "relative", "check": "upcoming"},
            "got upcoming with rule relative, .* set mining.check: seen",
        ),
        (
            {"rule": "v1", "successor": "score"},
            "got score with rule v1, .* mining.rule: relative or v2",
        ),
        (
            {"rule": "v2", "successor": "score", "exhausted": "wrap"},
            "got score with exhausted wrap, ",
        ),
        ({"rule": "v1", "floor": "auto"}, "mining.floor: got auto with rule v1, expected it with v2 only; remove it"),
        ({"rule": "v2", "quantile": 0.5}, "mining.quantile: got 0.5 with rule v2, expected it with relative only"),
        ({"rule": "none", "uses_above": 2}, "mining.uses_above: got 2 with rule none, expected it with relative only"),
        ({"rule": "relative", "quantile": 1}, "quantile: got 1, expected .*less than 1"),
        ({"rule": "relative", "quantile": -0.1}, "quantile: got -0.1, expected .*at least 0"),
        ({"rule": "relative", "uses_above": -1}, "uses_above: got -1, expected .*at least 0"),
        ({"rule": "v2", "floor": "low"}, r"floor.*: got the text \"low\", expected .*auto"),
        ({"successor": "best"}, "successor: got the text \"best\", expected 'rank' or 'score'"),
        ({"fresh_steps": 0}, "fresh_steps: got 0, expected .*at least 1"),
    ],
)
def test_what_does_not_fit_is_refused_in_one_line(settings, words: str) -> None:
    with pytest.raises(ValueError, match=words) as error:
        build(MiningConfig, settings, "recipe.yaml")
    assert "\n" not in str(error.value)


def test_a_rule_switched_off_leaves_how_successors_are_chosen_in_the_recipe() -> None:
    assert build_rule(MiningConfig(rule="none", successor="score", exhausted="wrap")) is None


def config_of(scope: str, rule: str, draw: str = "ranked") -> RunConfig:
    return SimpleNamespace(  # type: ignore[return-value]
        model=SimpleNamespace(name_or_path="no-model", trust_remote_code=False),
        mining=MiningConfig(rule=rule),
        tasks=[
            SimpleNamespace(
                name="faq", kind="retrieval", scope=scope, query_max_length=None, document_max_length=None,
                negatives=SimpleNamespace(per_query=2, draw=draw, bank=None, offset=0),
            )
        ],
    )  # fmt: skip


def test_a_task_that_compares_no_other_documents_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("harness.run.tasks.steady_limit", lambda *_: None)
    with pytest.raises(ValueError, match=r"^tasks.faq.negatives.scope: got own .*set scope: task"):
        check_settings(config_of("own", "relative"))
    check_settings(config_of("task", "relative"))
    check_settings(config_of("own", "v2"))


def test_no_rule_replaces_negatives_that_are_drawn_anew_at_each_use(monkeypatch: pytest.MonkeyPatch) -> None:
    """It would compare a negative's similarity with that of another one, and replace what is not in use."""
    monkeypatch.setattr("harness.run.tasks.steady_limit", lambda *_: None)
    message = r"^tasks.faq.negatives.draw: got random with mining.rule v2, .*set draw: ranked, or mining.rule: none$"
    with pytest.raises(ValueError, match=message):
        check_settings(config_of("task", "v2", "random"))
    check_settings(config_of("task", "none", "random"))


@pytest.mark.parametrize(
    ("settings", "got", "default"),
    [
        ({"successor": "score"}, "successor: got score", "successor: rank"),
        ({"start": "ranking"}, "start: got ranking", "start: first_use"),
    ],
)
def test_scores_that_no_bank_has_are_missed_before_a_model_is_loaded(monkeypatch, settings, got, default) -> None:
    """`harness plan` says it, too; rows list negatives, but not what ranked them."""
    monkeypatch.setattr("harness.run.tasks.steady_limit", lambda *_: None)
    config = config_of("task", "v2")
    task = config.tasks[0]
    config.mining = MiningConfig(rule="v2", **settings)
    message = (
        f"mining.{got}, but task faq has no bank that says what ranked it; make one with harness mine, set "
        f"mining.remine.at_start, or mining.{default}"
    )
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        check_settings(config)
    task.negatives.bank = "banks/faq"
    check_settings(config)
    task.negatives.bank = None
    config.mining = MiningConfig(rule="v2", remine={"at_start": True}, **settings)
    check_settings(config)
    config.mining = MiningConfig(rule="none", **settings)
    check_settings(config)


@pytest.mark.parametrize(
    ("settings", "steps", "expected"),
    [
        ({}, 11, "training.steps is 11"),
        ({}, 12, None),
        ({"interval": 3}, 31, "training.steps is 31"),
        ({"remine": {"every": 11}}, 99, "mining.remine.every is 11"),
        ({"floor": 0.1}, 5, None),
    ],
)
def test_a_floor_that_is_known_too_late_is_said(settings, steps: int, expected: str | None) -> None:
    message = late_floor_message(MiningConfig(**{"rule": "v2", "floor": "auto", **settings}), steps)
    assert (expected is None) == (message is None)
    assert expected is None or expected in str(message)


def test_the_plan_says_the_rule_its_numbers_and_what_it_compares_with() -> None:
    assert mining_lines(MiningConfig(), StepPlan(1, NO_TEXTS, ())) == []
    run = Run([9, 9, 9], 2)
    plan = run.plan(1, [0, 1, 2])
    assert mining_lines(MiningConfig(rule="relative"), plan) == [
        "mining: rule relative (quantile 0.9, uses_above 3), judged every step; a replaced negative gives way to the "
        "next rank",
        "mining: task faq: a query's negatives are compared with 9 of 9 documents (27 cosines a step)",
    ]
    config = MiningConfig(rule="v2", floor="auto", interval=5, successor="score")
    assert mining_lines(config, plan) == [
        "mining: rule v2 (ratio 1.2, ceiling 0.7, floor auto), judged every 5 steps; a replaced negative gives way to "
        "the next rank that is harder, while scores are at most 100 steps old"
    ]
