"""Judges what became of one input: read, refused in one line, or a find (anything else).

A refusal is a ValueError of this project's own code (or an error class of its own) whose message is lines of at most
1,000 characters, one per mistake. An error of a library that reaches the caller is a find, even if it is a ValueError,
and so is an input that takes longer than three seconds of a processor.
"""

from __future__ import annotations

import signal
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

MOST_SECONDS, GIVEN_UP_SECONDS = 3.0, 20
LONGEST_LINE = 1_000  # characters
ROOT = Path(__file__).parents[2]


@dataclass(frozen=True, slots=True)
class Find:
    """Something that must not happen. place: where, the same for all inputs that lead there. what: in words."""

    place: str
    what: str


class _GivenUp(BaseException):
    """The input takes too long; a BaseException, so that nothing that reads it can swallow it."""


def judge(work: Callable[[], Any], *, mistakes: int = 1) -> Find | str:
    """Run `work`: `read`, `refused`, or what is wrong. mistakes: how many lines a message may have, one each."""
    started = time.process_time()  # of this process: a busy machine is no find
    try:
        with _alarm(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            work()
        result: Find | str = "read"
    except _GivenUp as error:
        return Find(f"slow at {_place(error)}", f"given up after {GIVEN_UP_SECONDS} s")
    except Exception as error:
        result = _judged(error, mistakes)
    seconds = time.process_time() - started
    if seconds > MOST_SECONDS and isinstance(result, str):
        return Find(f"slow, {result}", f"took {seconds:.1f} s")
    return result


def problem_of_message(message: str, mistakes: int = 1) -> str | None:
    """What is wrong with a message; None if it has a line per mistake, none of them empty or very long."""
    lines = message.split("\n")
    if len(lines) > mistakes:
        return f"a message of {len(lines)} lines"
    if not all(line.strip() for line in lines):
        return "a message with an empty line"
    longest = max(map(len, lines))
    return f"a line of {longest} characters" if longest > LONGEST_LINE else None


def _judged(error: Exception, mistakes: int) -> Find | str:
    is_own = type(error) is ValueError or type(error).__module__.startswith("harness")
    frames = traceback.extract_tb(error.__traceback__)
    is_own = is_own and isinstance(error, ValueError) and str(ROOT / "harness") in frames[-1].filename
    problem = problem_of_message(str(error), mistakes) if is_own else "an error that is no line for a user"
    if problem is None:
        return "refused"
    return Find(_place(error), f"{problem}: {type(error).__name__}: {str(error)[:300]!a}")


def _place(error: BaseException) -> str:
    """The last line of the harness that the error came through, and its type."""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if str(ROOT / "harness") in frame.filename]
    where = f"{Path(frames[-1].filename).relative_to(ROOT)}:{frames[-1].lineno}" if frames else "outside harness/"
    return f"{where} {type(error).__name__}"


@contextmanager
def _alarm() -> Iterator[None]:
    def give_up(*_: object) -> None:
        raise _GivenUp

    before = signal.signal(signal.SIGALRM, give_up)
    signal.alarm(GIVEN_UP_SECONDS)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
