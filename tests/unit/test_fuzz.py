"""A few hundred random inputs of every target of `python -m tests.fuzz`, the same ones at every start."""

import pytest

from tests.fuzz.command import all_targets
from tests.fuzz.judgement import Find, judge
from tests.fuzz.target import run_batch

INPUTS = 120  # of a target with the share 1
TARGETS = {target.name: target for target in all_targets()}


@pytest.mark.parametrize("name", TARGETS)
def test_nothing_but_a_line_comes_of_an_input(name):
    target = TARGETS[name]
    tally = run_batch(target, max(10, int(INPUTS * min(1.0, target.share))), seed=13)
    assert tally.finds == {}
    assert tally.read > 0  # some inputs are whole, or the target would try nothing but the first check
    assert tally.refused > 0


def test_errors_that_are_no_line_for_a_user_are_finds():
    from harness.files import check_output

    def harness_raises(message):
        def work():
            check_output(message, "x")

        return work

    for work in (lambda: {}["a"], lambda: int("x"), lambda: b"\xff".decode(), lambda: [].x, harness_raises(None)):
        assert isinstance(judge(work), Find)
    assert judge(lambda: 1) == "read"


def test_a_line_of_this_project_is_a_refusal_and_two_lines_are_a_find(tmp_path):
    from harness.files import check_output

    (tmp_path / "file").write_text("")
    assert judge(lambda: check_output(tmp_path / "file" / "inside", "output")) == "refused"
    assert isinstance(judge(lambda: check_output(tmp_path / "file" / "in\nside", "output")), Find)
    assert isinstance(judge(lambda: check_output(tmp_path / "file" / ("x" * 2_000), "output")), Find)


def test_an_input_that_takes_seconds_is_a_find(monkeypatch):
    import time

    from tests.fuzz import judgement

    monkeypatch.setattr(judgement, "MOST_SECONDS", 0.01)
    assert isinstance(judge(lambda: sum(range(3_000_000))), Find)
    monkeypatch.setattr(judgement, "GIVEN_UP_SECONDS", 1)
    assert isinstance(judge(lambda: time.sleep(30)), Find)
