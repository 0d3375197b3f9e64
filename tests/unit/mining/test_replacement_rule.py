"""A rule is found by its file name; common behaviour of v1 and v2; a new rule needs one new file."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from harness.mining import rules
from harness.mining.config import NUMBERS_OF_RULES, MiningConfig, build_rule
from harness.mining.replacement_rule import rule_class, rule_names
from harness.settings.recipe_file import build
from tests.dynamic_run import Run, easy, replaced

NAN = np.nan


def settings_of(**settings) -> tuple[str, dict[str, float], int]:
    rule = build_rule(MiningConfig(**settings))
    assert rule is not None
    return rule.name, rule.numbers, rule.interval


def listed_rules() -> str:
    """Every value of mining.rule, as a message lists them."""
    *others, last = ["none", *rule_names()]
    return f"{', '.join(map(repr, others))} or {last!r}"


def rules_that_take(number: str) -> str:
    """The rules that take a number of the recipe, as a message lists them."""
    return " or ".join(name for name in rule_names() if number in rule_class(name).default_numbers)


def test_the_defaults_are_the_papers_numbers() -> None:
    assert build_rule(MiningConfig()) is None
    assert settings_of(rule="v1") == ("v1", {"ratio": 1.15, "ceiling": 0.8}, 100)
    assert settings_of(rule="v2") == ("v2", {"ratio": 1.2, "ceiling": 0.7, "floor": 0.4}, 1)
    assert settings_of(rule="v2", check="upcoming")[2] == 100


def test_every_number_is_a_setting_and_a_floor_of_zero_is_one() -> None:
    numbers = {"ratio": 1.0, "ceiling": 0.5, "interval": 7}
    assert settings_of(rule="v1", **numbers) == ("v1", {"ratio": 1.0, "ceiling": 0.5}, 7)
    assert settings_of(rule="v2", floor=0.0, **numbers) == ("v2", {"ratio": 1.0, "ceiling": 0.5, "floor": 0.0}, 7)


@pytest.mark.parametrize("rule", ["v1", "v2"])
@pytest.mark.parametrize(("start", "similarity"), [(-0.5, -0.6), (-0.1, -0.7), (0.0, -0.1), (-0.0, -0.1)])
def test_a_start_of_zero_or_below_never_passes_the_ratio_test(rule, start, similarity) -> None:
    """Each S here is below S0 / ratio. Without the check for S0 > 0 all would be replaced."""
    floor = {"floor": -1.0} if rule == "v2" else {}
    assert easy([[start]], [[similarity]], rule=rule, **floor) == [[False]]


@pytest.mark.parametrize("rule", ["v1", "v2"])
def test_an_exact_tie_is_no_replacement(rule) -> None:
    """The numbers are exact in floating point: 1.25 * 0.5 = 0.625, and S equals the ceiling."""
    settings = {"rule": rule, "ratio": 1.25, "ceiling": 0.75}
    below = np.nextafter(0.5, 0)
    assert easy([[0.625], [0.625]], [[0.5], [below]], **settings) == [[False], [True]]
    assert easy([[1.0], [1.0]], [[0.75], [np.nextafter(0.75, 0)]], **settings) == [[False], [True]]


@pytest.mark.parametrize("rule", ["v1", "v2"])
def test_nothing_seen_is_nothing_replaced(rule) -> None:
    assert easy([[NAN, NAN], [0.1, NAN]], [[0.1, NAN], [NAN, 0.1]], rule=rule) == [[False, False], [False, False]]


LOW_TWICE = '''
"""A rule in one file, with a state: a negative is easy if it was below the ceiling at two judgements in a row."""

import numpy as np

from harness.mining.replacement_rule import ReplacementRule, seen_slots


class Rule(ReplacementRule):
    default_numbers = {"ceiling": 0.3}
    default_interval = 2

    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.row_B, self.low_BM = np.empty(0, np.int64), None

    def easy(self, row_B, start_BM, similarity_BM):
        low_BM = seen_slots(start_BM, similarity_BM) & (similarity_BM < self.numbers["ceiling"])
        low_before_BM = np.zeros_like(low_BM)
        _, here, before = np.intersect1d(row_B, self.row_B, return_indices=True)
        if len(here):
            low_before_BM[here] = self.low_BM[before]
        self.row_B, self.low_BM = row_B, low_BM
        return low_BM & low_before_BM

    def fixed_thresholds(self):
        return {"S below 0.3, twice": 0.3}

    def state(self):
        return {} if self.low_BM is None else {"row": self.row_B, "low": self.low_BM}

    def load_state(self, state):
        if state:
            self.row_B, self.low_BM = state["row"], state["low"]
'''


@pytest.fixture
def low_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Add a file to the folder of the rules, without any other change, and return the rule's name."""
    (tmp_path / "low_twice.py").write_text(LOW_TWICE)
    monkeypatch.setattr(rules, "__path__", [*rules.__path__, str(tmp_path)])
    yield "low_twice"
    sys.modules.pop("harness.mining.rules.low_twice", None)
    vars(rules).pop("low_twice", None)


def test_a_new_rule_is_one_file_and_judges_the_negatives_of_a_run(low_twice: str) -> None:
    run = Run([9], 2, rule=low_twice)
    assert replaced(run.step(2, {0: [0.2, 0.2]})) == (0, 0)
    assert replaced(run.step(3, {0: [0.2, 0.2]})) == (0, 0)  # not judged, because the rule's interval is 2
    assert replaced(run.step(4, {0: [0.2, 0.5]})) == (1, 0)
    assert run.ranks(6) == [2, 1]


def test_a_checkpoint_keeps_what_a_rule_remembers(low_twice: str) -> None:
    run = Run([9], 2, rule=low_twice)
    run.step(2, {0: [0.2, 0.5]})
    run.reload()
    assert replaced(run.step(4, {0: [0.2, 0.2]})) == (1, 0)
    assert run.ranks(6) == [2, 1]


def test_a_new_ranking_starts_with_a_rule_that_remembers_nothing(low_twice: str) -> None:
    run = Run([9], 2, rule=low_twice, interval=1, remine={"every": 2})
    run.step(1, {0: [0.2, 0.2]})
    run.step(2, {})
    run.negatives.config = run.config.model_copy(update={"remine": run.config.remine.model_copy(update={"every": 0})})
    assert replaced(run.step(4, {0: [0.2, 0.2]})) == (0, 0)
    assert replaced(run.step(5, {0: [0.2, 0.2]})) == (2, 0)


def test_the_recipe_knows_a_new_rule_its_numbers_and_its_name_in_messages(low_twice: str) -> None:
    assert settings_of(rule=low_twice, ceiling=0.2) == (low_twice, {"ceiling": 0.2}, 2)
    message = f"mining.ratio: got 2.0 with rule low_twice, expected it with {rules_that_take('ratio')} only"
    with pytest.raises(ValueError, match=message):
        MiningConfig(rule=low_twice, ratio=2.0)
    assert low_twice in rule_names()
    with pytest.raises(ValueError, match=re.escape(f"expected {listed_rules()}")):
        build(MiningConfig, {"rule": "no_such_rule"}, "recipe.yaml")


def test_an_unknown_rule_and_a_number_of_another_rule_are_refused_in_one_line() -> None:
    for given, shown in (("no_such_rule", 'the text "no_such_rule"'), (1, "1"), (None, "nothing")):
        with pytest.raises(ValueError, match=f"^recipe.yaml: rule: got {shown}, expected {listed_rules()}$"):
            build(MiningConfig, {"rule": given}, "recipe.yaml")
    for rule in ("none", "v1"):
        message = f"mining.floor: got 0.3 with rule {rule}, expected it with {rules_that_take('floor')} only; remove it"
        with pytest.raises(ValueError, match=message):
            MiningConfig(rule=rule, floor=0.3)


def test_a_rule_switched_off_may_leave_its_numbers_in_the_recipe() -> None:
    assert build_rule(MiningConfig(rule="none", ratio=1.2, ceiling=0.7, interval=5)) is None


def test_every_file_of_the_folder_is_a_rule_that_reads_numbers_of_the_recipe() -> None:
    files = (file.stem for file in Path(rules.__file__).parent.glob("*.py"))
    assert rule_names() == sorted(name for name in files if name != "__init__")
    assert {"v1", "v2"} <= set(rule_names())
    for name in rule_names():
        unknown = set(rule_class(name).default_numbers) - set(NUMBERS_OF_RULES)
        assert not unknown, f"rule {name} takes {unknown}: add them to MiningConfig and to NUMBERS_OF_RULES beside it"
    assert set(NUMBERS_OF_RULES) <= set(MiningConfig.model_fields)


def test_the_report_is_told_what_a_rule_compares_similarities_with() -> None:
    v1, v2 = build_rule(MiningConfig(rule="v1")), build_rule(MiningConfig(rule="v2", floor=0.25))
    assert v1 is not None
    assert v2 is not None
    assert v1.fixed_thresholds() == {"S below 0.8 only": 0.8}
    assert v2.fixed_thresholds() == {"S below 0.7 only": 0.7, "S0 below 0.25: replaced at once": 0.25}
    assert v1.moving_thresholds(np.array([0.5]))["S0 / 1.15"] == 0.5 / 1.15
    assert v2.moving_thresholds(np.array([0.5]))["S0 / 1.2"] == 0.5 / 1.2
