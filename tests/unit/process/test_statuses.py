"""Exit statuses say honestly how a job ended, and users find each of them explained."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from harness.process import statuses

RUNS = (Path(__file__).parents[3] / "docs" / "runs.md").read_text(encoding="utf-8")


def test_every_status_stands_in_the_table_for_users() -> None:
    known = {value for name, value in vars(statuses).items() if name.isupper()}
    assert {int(status) for status in re.findall(r"^\| (\d+) \|", RUNS, flags=re.MULTILINE)} == known


@pytest.mark.parametrize(
    ("of_ranks", "status"),
    [
        ([], 0),
        ([0, 0], 0),
        ([75, 75], 75),
        ([0, 75], 75),
        ([1, 137, 75], 137),
        ([75, 2], 2),
        ([2, 137], 137),
        ([1, 75], 1),
    ],
)
def test_the_status_of_a_job_is_that_of_its_cause(of_ranks: list[int], status: int) -> None:
    assert statuses.of_ranks(of_ranks) == status


def test_only_what_the_same_command_may_mend_is_worth_a_restart() -> None:
    tried = {status: statuses.worth_a_restart(status) for status in (0, 1, 2, 75, 130, 137, 139)}
    assert [status for status, is_worth in tried.items() if is_worth] == [1, 75, 137, 139]
