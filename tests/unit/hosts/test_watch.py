"""The watch over waits: it ends all ranks with one line that names the rank that is missing. No processes needed."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from harness.hosts import watch as watching
from harness.hosts.watch import Watch
from harness.waits import Waits

BEAT = 0.02
HOST = socket.gethostname()


class Store:
    """A store of torch.distributed as a dictionary."""

    def __init__(self) -> None:
        self.values: dict[str, str] = {}
        self.is_cut = False

    def set(self, key: str, value: str) -> None:
        self._reach()
        self.values[key] = value

    def multi_get(self, keys: list[str]) -> list[bytes]:
        self._reach()
        return [self.values[key].encode() for key in keys]

    def check(self, keys: list[str]) -> bool:
        self._reach()
        return all(key in self.values for key in keys)

    def _reach(self) -> None:
        if self.is_cut:
            raise RuntimeError("Broken pipe")


class Rank:
    """A rank as a thread: its waits, its watch, and how it left."""

    def __init__(self, store: Store, number: int, num_ranks: int, seconds: float, on_device: bool) -> None:
        self.waits, self.left, self.line = Waits(), threading.Event(), ""
        self.waits.start_is_over()
        minutes = seconds / 60
        self.watch = Watch(lambda: store, number, num_ranks, minutes, self._leave, self.waits, on_device=on_device)
        self.watch.start()

    def _leave(self, line: str | None) -> None:
        self.line = line or ""
        self.left.set()

    def wait_in(self, name: str) -> None:
        def stay() -> None:
            with self.waits(name):
                self.left.wait(5)

        threading.Thread(target=stay, daemon=True).start()


@pytest.fixture
def ranks(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., list[Rank]]]:
    monkeypatch.setattr(watching, "BEAT_SECONDS", BEAT)
    made: list[Rank] = []

    def make(count: int, stores: list[Store] | None = None, on_device: bool = False) -> list[Rank]:
        shared = Store()
        made.extend(Rank((stores or [shared] * count)[rank], rank, count, 0.4, on_device) for rank in range(count))
        time.sleep(5 * BEAT)  # all know the hosts of all
        return made

    yield make
    for rank in made:
        rank.watch.stop()


@contextmanager
def lasting(least: float, most: float) -> Iterator[None]:
    started = time.monotonic()
    yield
    assert least <= time.monotonic() - started <= most


def test_a_rank_that_does_not_come_is_named_once_and_all_end(
    ranks: Callable[..., list[Rank]], capsys: pytest.CaptureFixture[str]
) -> None:
    first, late, third = ranks(3)
    third.watch._silence = 10.0  # it speaks only if the first does not, which a busy machine may delay
    with lasting(0.4, 3):
        first.wait_in("all_gather_rows")
        third.wait_in("all_gather_rows")
        assert all(rank.left.wait(3) for rank in (first, late, third))
    assert f"in all_gather_rows for rank 1 ({HOST}), which is alive, but has not come so far" in first.line
    assert (late.line, third.line) == ("", "")
    lines = capsys.readouterr().err.splitlines()
    assert [line for line in lines if line.startswith("training.timeout: rank 0 (")] == lines[-1:]
    assert f"warning: waiting for rank 1 ({HOST})" in lines[0]


def test_a_rank_that_is_not_heard_of_ends_the_others_also_in_a_phase_that_may_take_long(
    ranks: Callable[..., list[Rank]],
) -> None:
    first, lost = ranks(2)
    lost.watch.stop()  # its host has lost power, or its cable
    with first.waits.may_take_long():
        first.wait_in("barrier")
        assert first.left.wait(3)
    assert f"for rank 1 ({HOST}), not heard of for more than" in first.line


def test_a_rank_that_works_for_long_is_waited_for_in_a_phase_that_may_take_long(
    ranks: Callable[..., list[Rank]], capsys: pytest.CaptureFixture[str]
) -> None:
    first, _ = ranks(2)
    with first.waits.may_take_long():
        first.wait_in("barrier")
        assert not first.left.wait(1.0)
    assert capsys.readouterr().err == ""


def test_a_rank_that_cannot_reach_the_store_names_rank_0_whose_host_keeps_it(
    ranks: Callable[..., list[Rank]],
) -> None:
    """The two sides of a cut link share nothing, so each says what it misses."""
    here, there = Store(), Store()
    for store in (here, there):
        for rank in range(2):
            store.values[f"beat/{rank}"] = f'[0, 0, "host-{rank + 1}"]'
    first, second = ranks(2, stores=[here, there])
    there.is_cut = True
    for rank in (first, second):
        rank.wait_in("all_reduce")
    assert first.left.wait(3)
    assert second.left.wait(3)
    assert "rank 1 (host-2), not heard of" in first.line
    assert "for rank 0 (host-1), not heard of" in second.line


def test_ranks_that_all_wait_in_the_same_call_say_that_nothing_comes_through(
    ranks: Callable[..., list[Rank]],
) -> None:
    for rank in (found := ranks(2)):
        rank.wait_in("all_reduce")
    assert found[0].left.wait(3)
    assert "all other ranks, which wait, too" in found[0].line


def test_calls_that_return_in_time_end_nothing(ranks: Callable[..., list[Rank]]) -> None:
    first, second = ranks(2)
    for _ in range(8):
        with first.waits("all_reduce"):
            time.sleep(0.1)
    assert not first.left.is_set()
    assert not second.left.is_set()


def test_a_device_that_waits_names_the_rank_that_has_made_fewer_calls(ranks: Callable[..., list[Rank]]) -> None:
    """NCCL's calls return at once; the process then waits somewhere else."""
    first, late = ranks(2, on_device=True)
    for rank in (first, late):
        with rank.waits("all_reduce"):
            pass
    assert not first.left.wait(0.9)  # both work for long
    with first.waits("all_gather_rows"):
        pass
    assert first.left.wait(3)
    assert f"in all_gather_rows for rank 1 ({HOST}), which is alive" in first.line


def test_a_call_inside_a_call_counts_once() -> None:
    """DeepSpeed's collectives call each other; the count must be the same on every rank."""
    waits = Waits()

    @waits("outer")
    def outer() -> str:
        with waits("inner"):
            current = waits.current()
            assert current is not None
            return current.name

    assert [outer(), outer()] == ["outer", "outer"]
    assert waits.num_calls == 2
    assert waits.current() is None
