"""A signal ends a command where it stands, or, inside a training loop, is noted until the step is done."""

from __future__ import annotations

import os
import signal

import pytest
import typer

from harness.cli import mistakes
from harness.process import rank_watch, stop_request
from harness.process.stop_request import StopAskedError, asked, deferred, listen


@pytest.fixture(autouse=True)
def _handlers(monkeypatch: pytest.MonkeyPatch):
    numbers = (signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2)
    before = [signal.getsignal(number) for number in numbers]
    for name, value in (("signal_name", None), ("raised_at", float("-inf"))):
        monkeypatch.setattr(stop_request._State, name, value)
    listen()
    yield
    for number, handler in zip(numbers, before, strict=True):
        signal.signal(number, handler)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
def test_a_signal_is_raised_outside_and_noted_inside_of_deferred(number: signal.Signals) -> None:
    with deferred():
        os.kill(os.getpid(), number)
        assert asked() == number.name
    with pytest.raises(StopAskedError) as stopped:
        os.kill(os.getpid(), number)
    assert stopped.value.signal_name == number.name


def test_a_second_signal_does_not_disturb_what_the_first_has_started() -> None:
    with pytest.raises(StopAskedError):
        os.kill(os.getpid(), signal.SIGTERM)
    os.kill(os.getpid(), signal.SIGTERM)


def test_nothing_that_catches_errors_catches_a_stop() -> None:
    assert not issubclass(StopAskedError, Exception)


def test_sigusr2_is_ctrl_c() -> None:
    with deferred(), pytest.raises(KeyboardInterrupt):
        os.kill(os.getpid(), signal.SIGUSR2)


def test_a_rank_listens_before_it_is_forked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its watcher hands signals on at once; one that came before the rank listens would end it and lose its steps."""
    signal.signal(signal.SIGUSR1, signal.SIG_DFL)
    listening = []
    monkeypatch.setattr(rank_watch, "start", lambda: listening.append(signal.getsignal(signal.SIGUSR1)))
    monkeypatch.setattr(mistakes, "_run", lambda app: None)
    mistakes.run(typer.Typer())
    assert listening == [stop_request._on_signal]
