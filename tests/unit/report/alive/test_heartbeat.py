"""Rank 0 tells ranks that are silent from those that work or wait, by its own clock."""

import json
import time

import pytest

from harness.report.alive import heartbeat
from harness.report.alive.heartbeat import FOLDER, Heartbeat


@pytest.fixture
def clock(monkeypatch):
    """A clock that stands still until it is moved."""

    class Clock:
        now = 1_000.0

    monkeypatch.setattr(heartbeat.time, "monotonic", lambda: Clock.now)
    return Clock


def beats(folder, num_ranks, said):
    """The heartbeats of all ranks, without their threads."""
    every = [Heartbeat(folder, rank, num_ranks, said.append) for rank in range(num_ranks)]
    for beat in every:
        beat._thread.start = lambda: None
        beat.start()
    return every


def test_a_rank_whose_beat_stands_still_is_silent_and_the_others_are_not(tmp_path, clock):
    first, second, third = beats(tmp_path, 3, [])
    for number in range(10):
        clock.now += 5
        for beat in (first, second) if number >= 2 else (first, second, third):
            beat._write(number)
        first._look()
    assert first.in_words().startswith("last step 50 s ago, rank 2 (")
    assert first.in_words().endswith("silent for 40 s")


def test_a_beat_of_an_earlier_start_does_not_count_as_heard_of(tmp_path, clock):
    (tmp_path / FOLDER).mkdir()
    (tmp_path / FOLDER / "rank-1.json").write_text('{"beat": 7, "host": "old"}')
    first = beats(tmp_path, 2, [])[0]
    clock.now += 40
    first._write(0)
    first._look()
    assert "rank 1 (host unknown) silent for 40 s" in first.in_words()


def test_a_step_that_takes_long_is_said_at_ever_longer_intervals_and_usual_steps_are_not(tmp_path, clock):
    said = []
    (only,) = beats(tmp_path, 1, said)
    for step in (1, 2, 3):
        clock.now += 5
        only.step(step)
        only._look()
    for _ in range(60):
        clock.now += 5
        only._look()
    assert said == [f"step 3 ended {time} ago; the rank is alive" for time in ("1:00 min", "2:00 min", "4:00 min")]


def test_steps_that_usually_take_minutes_are_waited_for(tmp_path, clock):
    said = []
    (only,) = beats(tmp_path, 1, said)
    clock.now += 300
    only.step(1)
    clock.now += 900
    only._look()
    assert said == []


def test_a_warning_of_another_rank_is_printed_once(tmp_path, clock):
    said = []
    first, second = beats(tmp_path, 2, said)
    second._warning = "rank 1 (b): memory keeps growing"
    for number in range(3):
        second._write(number)
        first._look()
    assert said == ["warning: rank 1 (b): memory keeps growing"]


def test_a_beat_that_is_no_beat_is_passed_over(tmp_path, clock):
    first = beats(tmp_path, 2, [])[0]
    for content in ("", "[1]", "{", '{"warning": 3}', "\x00"):
        (tmp_path / FOLDER / "rank-1.json").write_text(content)
        first._look()


def test_the_file_says_where_a_rank_is(tmp_path):
    (beat,) = beats(tmp_path, 1, [])
    beat.step(41)
    beat._write(1)
    content = json.loads((tmp_path / FOLDER / "rank-0.json").read_text())
    assert content["step"] == 41
    assert content["bytes"] > 1_000_000


def test_the_thread_beats_by_itself_and_leaves_nothing_behind(tmp_path, monkeypatch):
    monkeypatch.setattr(heartbeat, "SECONDS_BETWEEN_BEATS", 0.01)
    beat, file = Heartbeat(tmp_path, 0, 1, print), tmp_path / FOLDER / "rank-0.json"
    beat.start()
    end = time.monotonic() + 20
    while not (file.exists() and json.loads(file.read_text())["beat"] >= 2) and time.monotonic() < end:
        time.sleep(0.005)
    assert json.loads(file.read_text())["beat"] >= 2
    beat.stop()
    beat.stop()
    assert not (tmp_path / FOLDER).exists()
