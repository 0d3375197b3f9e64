"""Rank 0 works while the other ranks wait: all ranks get its value, its error, or the file that it made."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from harness import comm, rank0
from tests.ranks import run_ranks

pytestmark = pytest.mark.distributed


def worked_for_all() -> tuple[int, list[int]]:
    """Runs on a rank: let rank 0 work for so long that it reports many times that it is alive."""
    rank0.SIGN_OF_LIFE_SECONDS = 0.01
    ranks: list[int] = []

    def work() -> int:
        ranks.append(comm.rank())
        time.sleep(0.3)
        return 7

    return rank0.by_main(work), ranks


def test_rank_0_works_and_all_get_what_it_found() -> None:
    assert run_ranks(2, worked_for_all, timeout=90) == [(7, [0]), (7, [])]


def each_worked() -> list[int]:
    """Runs on a rank: rank 1 works for so long that the others report many times that they wait."""
    rank0.SIGN_OF_LIFE_SECONDS = 0.01

    def work() -> int:
        time.sleep(0.3 * comm.rank())
        return 10 + comm.rank()

    return rank0.by_each(work)


def test_each_rank_works_and_all_get_what_all_found() -> None:
    assert run_ranks(2, each_worked, timeout=90) == [[10, 11], [10, 11]]


def one_failed() -> str:
    """Runs on a rank: return the message of the error, while rank 0 works for longer than the test may take."""

    def work() -> None:
        if comm.rank() == 1:
            raise OSError(28, "No space left on device")
        time.sleep(600)

    with pytest.raises((OSError, ValueError)) as caught:
        rank0.by_each(work)
    return f"{type(caught.value).__name__}: {caught.value}"


def test_an_error_of_one_rank_ends_all_at_once() -> None:
    error = "OSError: [Errno 28] No space left on device"
    assert run_ranks(2, one_failed, timeout=90) == [f"ValueError: rank 1: {error}", error]


def failed_for_all() -> str:
    """Runs on a rank: return the message of rank 0's error."""

    def work() -> None:
        raise OSError(28, "No space left on device")

    with pytest.raises((OSError, ValueError)) as caught:
        rank0.by_main(work)
    return f"{type(caught.value).__name__}: {caught.value}"


def test_an_error_of_rank_0_is_raised_on_all() -> None:
    error = "OSError: [Errno 28] No space left on device"
    assert run_ranks(2, failed_for_all, timeout=90) == [error, f"ValueError: rank 0: {error}"]


def made_once(path: Path) -> tuple[str, int]:
    """Runs on a rank: ask twice to make `path`; return its content and how often this rank made it."""
    calls: list[Path] = []

    def make(unfinished: Path) -> None:
        calls.append(unfinished)
        unfinished.write_text("made")

    for _ in range(2):
        rank0.made_by_main(path, make)
    return path.read_text(), len(calls)


def test_rank_0_makes_a_file_once_and_all_see_it(tmp_path: Path) -> None:
    assert run_ranks(2, made_once, tmp_path / "file", timeout=90) == [("made", 1), ("made", 0)]


def test_a_rank_that_does_not_see_what_was_made_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rank0, "SHARED_FOLDER_SECONDS", 0.1)
    with pytest.raises(
        ValueError, match=r"rank 0 \(.*\) does not see .*absent, expected a folder that all hosts share"
    ):
        rank0.wait_until_visible(tmp_path / "absent")
