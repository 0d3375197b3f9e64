"""Numbers of a recipe under which nothing is learned are named; usual ones, also at their edges, are not."""

import pytest

from harness.config import load_recipe
from harness.run.alarms.settings import useless_settings
from harness.run.tasks import settings_without_effect


def lines(folder, *changes):
    return useless_settings(load_recipe(str(folder / "tiny.yaml"), changes).config)


@pytest.mark.parametrize(
    "changes",
    [
        (),
        ("training.dropout=0.5", "training.learning_rate=1e-7", "loss.temperature=1", "tasks.faq.weight=0.001"),
        (
            "training.learning_rate=1e-2",
            "training.weight_decay=0.1",
            "training.max_grad_norm=0",
            "loss.temperature=0.001",
        ),
    ],
)
def test_settings_that_people_train_with_are_not_mentioned(folder, changes):
    assert lines(folder, *changes) == []


@pytest.mark.parametrize(
    ("change", "start"),
    [
        ("training.dropout=0.999", "training.dropout is 0.999: one activation in 1,000 is kept"),
        (
            "training.learning_rate=1e-12",
            "training.learning_rate is 1e-12: a step moves a weight by about as much, less",
        ),
        ("training.learning_rate=1", "training.learning_rate is 1: a step moves every weight by about as much, more"),
        ("training.adam_epsilon=10", "training.adam_epsilon is 10, above usual gradients"),
        ("training.max_grad_norm=1e-20", "training.max_grad_norm is 1e-20: gradients are cut to less"),
        ("training.weight_decay=1000", "training.weight_decay is 1000: each step takes 100% of every weight away"),
        ("tasks.faq.weight=1e-20", "task faq: weight is 1e-20 beside 1 of another task"),
        (
            "tasks.faq.temperature=1000",
            "task faq: tasks.faq.temperature is 1000: cosines divided by it differ by 0.002",
        ),
        (
            "loss.cosent_temperature=50",
            "task similar: loss.cosent_temperature is 50: cosines divided by it differ by 0.04",
        ),
    ],
)
def test_a_setting_that_keeps_a_run_from_learning_is_named(folder, change, start):
    (line,) = lines(folder, change)
    assert line.startswith(start)
    assert ("lower it" in line) or ("raise it" in line)


def test_a_temperature_of_the_section_is_told_for_every_task_that_takes_it(folder):
    told = lines(folder, "loss.temperature=100")
    assert [line.split(":")[0] for line in told] == ["task faq", "task intents"]


def test_plan_and_train_show_these_lines(folder):
    """Both ask `settings_without_effect`."""
    config = load_recipe(str(folder / "tiny.yaml"), ["training.dropout=0.999"]).config
    assert any(line.startswith("training.dropout") for line in settings_without_effect(config, ()))
