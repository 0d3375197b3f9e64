"""An epoch of a task ends with the step that draws the last of its rows, whatever the balance."""

import pytest

from harness.data.plan.draw import draw_examples
from harness.data.plan.epochs import steps_of_epochs
from tests.unit.data.plan.test_draw import sources  # noqa: F401  a fixture


def counted_steps(tasks, position, epochs, balance):
    """By drawing step after step: the first after which the task has drawn `epochs` times its rows."""
    drawn, step = 0, 0
    while drawn < epochs * tasks[position].data.num_rows:
        step += 1
        drawn += sum(
            len(part.row_B)
            for part in draw_examples(tasks, seed=3, step=step, balance=balance)
            if part.task == position
        )
    return step


@pytest.mark.parametrize("balance", ["cbb", "alternate", "homogeneous"])
@pytest.mark.parametrize("epochs", [0.3, 1, 2.5])
def test_the_steps_of_epochs_are_those_that_drawing_takes(sources, balance, epochs):  # noqa: F811
    expected = [counted_steps(sources, i, epochs, balance) for i in range(len(sources))]
    for task, steps in zip(sources, expected, strict=True):
        name = task.config.name
        assert steps_of_epochs(sources, epochs, name, seed=3, balance=balance) == (name, steps)


@pytest.mark.parametrize("balance", ["cbb", "alternate", "homogeneous"])
def test_a_part_of_a_row_takes_a_step(sources, balance):  # noqa: F811
    """A run of 0 steps would end as trained."""
    name = sources[0].config.name
    assert steps_of_epochs(sources, 1e-9, name, seed=3, balance=balance)[1] >= 1


def test_without_a_name_an_epoch_is_that_of_the_task_that_is_seen_last(sources):  # noqa: F811
    """40 rows at 6 a step take 7 steps, 24 at 2 take 12: only after 12 every row has been seen."""
    assert steps_of_epochs(sources, 3, None, seed=0, balance="cbb") == ("few", 36)
