"""A run of hours that saves nothing says so once, when its first steps have shown their speed."""

from __future__ import annotations

import pytest

from harness.config import RunConfig
from harness.run.save import LongRunWarning
from harness.settings.recipe_file import build


def messages(steps: int, seconds: float, trained_steps: int = 0, **sections: object) -> list[tuple[int, str]]:
    """(step, warning) of a run whose first step takes a minute and each other one `seconds`."""
    tree = {
        "name": "x",
        "model": {"name_or_path": "demo-minilm"},
        "tasks": [{"name": "a", "kind": "sts", "path": "a.jsonl", "quota": 2}],
        "training": {"steps": steps},
        **sections,
    }
    warning = LongRunWarning(build(RunConfig, tree, "r.yaml"), trained_steps)
    first = trained_steps + 1
    found = [(step, warning.message(step, 60.0 if step == first else seconds)) for step in range(first, first + 20)]
    return [(step, message) for step, message in found if message is not None]


def test_hours_without_a_checkpoint_are_warned_of_once() -> None:
    never = {"checkpoint": {"every": 0}}
    assert messages(10_000, 1.0, **never) == [
        (
            6,
            "about 2:46 h are left, but checkpoint.every is 0: if it stops early, all is lost; leave the key out or "
            "set a number",
        )
    ]
    assert messages(10_000, 1.0, trained_steps=5_000, **never)[0][0] == 5_006
    assert messages(10_000, 0.3, **never) == []  # 50 minutes


@pytest.mark.parametrize("sections", [{}, {"checkpoint": {"every": 10}}, {"evaluation": {"every": 0}}])
def test_a_run_that_saves_is_not_warned_of(sections: dict[str, object]) -> None:
    assert messages(10_000, 1.0, **sections) == []


def test_hours_without_a_score_are_warned_of_if_there_is_data_to_score() -> None:
    ((_, message),) = messages(10_000, 1.0, evaluation={"every": 0, "data": ["x"]})
    assert "evaluation.every is 0: nothing is scored" in message
