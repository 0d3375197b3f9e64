"""Console output: a live line on a terminal, otherwise a few plain lines."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from harness.report import console as module
from harness.report.console import EvaluationConsole, MiningConsole, ReadingConsole, RunConsole, duration
from tests.unit.report.metrics import STEP_METRICS


class Clock:
    """A clock that only the steps move."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


def run(monkeypatch: pytest.MonkeyPatch, total: int, seconds: float, *, first: int = 0, terminal: bool = False) -> str:
    clock, stream = Clock(), io.StringIO()
    monkeypatch.setattr(module, "time", clock)
    with RunConsole(total, first, Console(file=stream, force_terminal=terminal, width=100)) as console:
        for step in range(first + 1, total + 1):
            clock.now += seconds
            console.step({**STEP_METRICS, "step": step, "seconds": seconds, "texts_per_second": 40 / seconds})
    return stream.getvalue()


def shown_steps(text: str) -> list[int]:
    return [int(line.split()[1].split("/")[0]) for line in text.splitlines()]


def test_without_a_terminal_lines_are_plain_and_tell_loss_speed_and_time_left(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = run(monkeypatch, total=3, seconds=2.0).splitlines()
    assert lines == [
        "step 1/3  loss 1.5000  20 texts/s  4 s left",
        "step 2/3  loss 1.5000  20 texts/s  2 s left",
        "step 3/3  loss 1.5000  20 texts/s",
    ]


def test_a_fast_run_shows_the_first_the_last_and_every_tenth_part(monkeypatch: pytest.MonkeyPatch) -> None:
    text = run(monkeypatch, total=1000, seconds=0.001)
    assert shown_steps(text) == [1, *range(101, 1000, 100), 1000]


def test_a_slow_run_shows_a_line_every_10_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    text = run(monkeypatch, total=100, seconds=4.0)
    assert shown_steps(text) == [*range(1, 100, 3), 100]


def test_the_time_left_of_a_continued_run_counts_its_own_steps_only(monkeypatch: pytest.MonkeyPatch) -> None:
    first_line = run(monkeypatch, total=12, seconds=3.0, first=10).splitlines()[0]
    assert first_line.startswith("step 11/12")
    assert first_line.endswith("3 s left")


def test_on_a_terminal_one_line_moves_and_the_cursor_comes_back(monkeypatch: pytest.MonkeyPatch) -> None:
    text = run(monkeypatch, total=5, seconds=1.0, terminal=True)
    assert "step 5/5  loss 1.5000  40 texts/s" in text
    assert text.count("\n") <= 3
    assert text.rindex("\x1b[?25h") > text.rindex("\x1b[?25l")


def test_messages_are_never_wrapped_and_never_read_as_markup() -> None:
    stream = io.StringIO()
    message = "PATH:1: FIELD: got [red]" + " word" * 60 + " :smile:"
    RunConsole(1, 0, Console(file=stream)).message(message)
    assert stream.getvalue() == message + "\n"


@pytest.mark.parametrize(
    ("seconds", "words"), [(59.4, "59 s"), (59.6, "1:00 min"), (185, "3:05 min"), (7800, "2:10 h")]
)
def test_durations_are_told_in_the_unit_that_fits(seconds: float, words: str) -> None:
    assert duration(seconds) == words


def test_a_step_without_measurable_time_does_not_divide_by_zero() -> None:
    stream = io.StringIO()
    RunConsole(1, 0, Console(file=stream)).step({**STEP_METRICS, "seconds": 0.0})
    assert stream.getvalue().startswith("step 1/1")


def test_a_step_that_ranked_candidates_anew_says_of_how_many_queries_and_in_which_time() -> None:
    reranked = {"step": 4, "queries_reranked": 1200.0, "windows_unfilled": 0.0, "seconds/mining": 2.04}
    lines = []
    for unfilled in (0.0, 7.0):
        stream = io.StringIO()
        RunConsole(10, 0, Console(file=stream)).step({**STEP_METRICS, **reranked, "windows_unfilled": unfilled})
        lines.append(stream.getvalue().splitlines()[1])
    assert lines == [
        "step 4: ranked the candidates of 1,200 queries anew in 2.0 s",
        "step 4: ranked the candidates of 1,200 queries anew in 2.0 s; 7 of them with too few candidates for a first "
        "window",
    ]


def test_a_long_first_reading_says_how_far_it_is_every_ten_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    """400 million rows take hours to validate; without output the run would look as if it hung."""
    clock = iter([0.0, 4.0, 11.0, 15.0, 22.0])
    monkeypatch.setattr("harness.report.console.time.monotonic", lambda: next(clock))
    output = io.StringIO()
    reading = ReadingConsole("task faq", Console(file=output))
    for _ in range(4):
        reading(1000)
    assert output.getvalue().splitlines() == [
        "task faq: 2,000 texts read or tokenised, 182 a second",
        "task faq: 4,000 texts read or tokenised, 182 a second",
    ]


def test_an_evaluation_gives_a_sign_of_life_per_data_set_and_every_ten_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, stream = Clock(), io.StringIO()
    monkeypatch.setattr(module, "time", clock)
    console = EvaluationConsole(Console(file=stream, width=100))
    console(5)  # before the first data set
    for name in ("faq", "sts"):
        console.start(name)
        for _ in range(3):
            clock.now += 6.0
            console(60)
    assert stream.getvalue().splitlines() == [
        "faq: scoring",
        "faq: 120 texts encoded, 10 a second",
        "sts: scoring",
        "sts: 120 texts encoded, 10 a second",
    ]


def test_a_ranking_within_a_training_shows_lines_with_its_task_on_a_terminal_too() -> None:
    """Bars would move over the lines of the steps."""
    out = io.StringIO()
    console = MiningConsole(
        "task faq: ", in_lines=True, console=Console(file=out, force_terminal=True, color_system=None)
    )
    console.progress("encoding queries", 0, 9000)
    console.progress("encoding queries", 9000, 9000)
    lines = out.getvalue().splitlines()
    assert lines[0] == "task faq: encoding queries: 0 of 9,000, 0 a second"
    assert lines[1].startswith("task faq: encoding queries: 9,000 of 9,000, ")
