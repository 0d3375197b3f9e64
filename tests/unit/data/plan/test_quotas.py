"""Shares of a step become whole numbers of examples."""

import numpy as np
import pytest

from harness.data.config import TaskConfig
from harness.data.data_config import DataConfig, check_batch
from harness.data.plan.plan import plan
from harness.data.plan.quotas import apportion, with_quotas
from tests.tiny import text


def tasks_of(open_, sizes, **settings):
    rows = [
        [{"text1": text(1000 * k + i), "text2": text(1000 * k + i + 1), "score": i % 2} for i in range(size)]
        for k, size in enumerate(sizes)
    ]
    names = [f"task{k}" for k in range(len(sizes))]
    return [open_("sts", rows[k], name, **settings.get(name, {"share": "auto"})) for k, name in enumerate(names)]


def quotas(tasks, **data):
    return [task.quota for task in with_quotas(tasks, DataConfig(**data))]


@pytest.mark.parametrize(("temperature", "expected"), [(1.0, [2, 8, 32]), (2.0, [6, 12, 24]), (1e9, [14, 14, 14])])
def test_shares_by_size_follow_the_temperature(open_, temperature, expected):
    """Sizes 4, 16, 64: shares in proportion to the sizes, to their roots 2, 4, 8, and equal shares."""
    tasks = tasks_of(open_, [4, 16, 64])
    assert quotas(tasks, batch=42, size_temperature=temperature) == expected


def test_numbers_and_shares_come_first_and_sizes_divide_the_rest(open_):
    """Of 40 examples 10 are a number and 10 a share of 0.25; 20 are divided in proportion to 3 and 7 rows."""
    given = {"task0": {"quota": 10}, "task1": {"share": 0.25}}
    assert quotas(tasks_of(open_, [50, 5, 3, 7], **given), batch=40) == [10, 10, 6, 14]


def test_a_resolved_share_is_the_number_of_examples_of_every_step(open_):
    tasks = with_quotas(tasks_of(open_, [4, 12]), DataConfig(batch=8))
    parts = plan(tasks, seed=0, step=5).parts
    assert [len(part.row_S) for part in parts] == [2, 6]
    assert [task.config.share for task in tasks] == [None, None]


def test_quotas_by_number_stay_as_they_are(open_):
    tasks = tasks_of(open_, [4, 8], task0={"quota": 3}, task1={"quota": 5})
    assert quotas(tasks) == [3, 5]


def test_whole_numbers_go_to_the_largest_remainders_and_to_the_first_of_equal_ones():
    assert apportion([2.5, 2.5, 5.0], 10) == [3, 2, 5]
    assert apportion([1.2, 3.7, 2.1], 7) == [1, 4, 2]


def test_whole_numbers_are_at_least_one_add_up_and_are_near_the_ideal():
    """Hamilton's method keeps each number within one of its ideal. Numbers below 1 become 1.

    The others pay for it evenly: each time the number with the largest surplus is lowered by one, so that the surpluses
    of those that paid differ by at most one.
    """
    random, num_raised = np.random.default_rng(0), 0
    for _ in range(300):
        count = int(random.integers(1, 8))
        total = int(random.integers(count, 40))
        ideal = random.dirichlet(np.full(count, 0.5)) * total
        found = np.array(apportion(ideal.tolist(), total))
        assert found.sum() == total
        raised = ideal < 1
        assert (found[raised] == 1).all()
        surplus = (found - ideal)[~raised]
        assert (surplus < 1).all()
        can_give = found[~raised] > 1
        if can_give.any():
            assert surplus[can_give].max() <= surplus.min() + 1
        if not raised.any():
            assert surplus.min() > -1
        num_raised += raised.any()
    assert 100 < num_raised < 300


def config(name, **settings):
    return TaskConfig(name=name, kind="sts", path="pairs.jsonl", **settings)


@pytest.mark.parametrize(
    ("tasks", "data", "message"),
    [
        ([{"share": "auto"}], {}, "data.batch: got none, expected the examples of a step: tasks.task0 has a share"),
        ([{"quota": 4}], {"batch": 8}, "data.batch: got 8, but every task has a quota; remove the key"),
        ([{"quota": 4}], {"size_temperature": 2.0}, "data.size_temperature: got 2.0, but no task has share: auto"),
        (
            [{"share": 0.5}, {"share": 0.3}],
            {"batch": 10},
            "data.batch: got 10, but quotas and shares come to 8, expect",
        ),
        ([{"quota": 9}, {"share": "auto"}, {"share": "auto"}], {"batch": 10}, "leaves 1 for tasks task1, task2"),
        ([{"share": 0.9}, {"share": "auto"}, {"share": "auto"}], {"batch": 10}, "leaves 1 for tasks task1, task2"),
        ([{"share": 0.5}, {"share": 0.25}, {"share": 0.25}], {"batch": 2}, "leaves 2 for tasks task0, task1, task2"),
        ([{"quota": 12}, {"share": "auto"}], {"batch": 10}, "leaves 0 for tasks task1"),
    ],
)
def test_shares_that_do_not_come_to_the_batch_are_an_error_that_names_the_knob(tasks, data, message):
    with pytest.raises(ValueError, match=r"^data\.") as caught:
        check_batch([config(f"task{k}", **settings) for k, settings in enumerate(tasks)], DataConfig(**data))
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_shares_that_come_to_the_batch_are_accepted():
    check_batch([config("a", share=0.7), config("b", share=0.3)], DataConfig(batch=10))
    check_batch([config("a", share=0.1), config("b", quota=3), config("c", share="auto")], DataConfig(batch=10))


def test_more_examples_than_the_data_can_give_without_many_repeats_are_refused(open_):
    """The pairs of equal texts in a step would be more than any memory holds."""
    with pytest.raises(ValueError, match=r"^tasks.task0: got 65 examples a step of 4 rows of data, .* lower quota"):
        with_quotas(tasks_of(open_, [4], task0={"quota": 65}), DataConfig())
    with pytest.raises(ValueError, match=r"^tasks.task0: got 1,000,000 examples"):
        with_quotas(tasks_of(open_, [4]), DataConfig(batch=1_000_000))
    assert quotas(tasks_of(open_, [4], task0={"quota": 64})) == [64]
