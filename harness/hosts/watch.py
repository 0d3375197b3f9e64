"""Ends all ranks with one line if one of them is missing for too long, and names it and its host.

A collective call by itself waits for an hour, or for ever if a cable is pulled. So each rank has a thread that writes
a beat (host, number of collective calls made) into the process group's store every few seconds, over a connection of
its own. A rank that waits for long in one call compares the beats: a rank whose beat stands still is lost, a rank that
has made fewer calls is late. A second thread looks at the time only, because the first may wait for the store itself.
"""

from __future__ import annotations

import json
import os
import socket
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Protocol

from harness import comm
from harness.process import statuses
from harness.waits import Wait, Waits, waits

LONG_MINUTES = 60.0  # the longest wait in a phase that is known to take long
DEFAULT_MINUTES = 10.0  # of commands without a recipe
BEAT_SECONDS = 2.0
_LOST_BEATS = 5  # a beat that stands still for so many intervals, or half the timeout, is of a rank that is lost
_WARN_SECONDS = 30.0
_ENDED = "ended"


class Store(Protocol):
    """The part of a store of torch.distributed that is used here."""

    def set(self, key: str, value: str) -> None: ...

    def multi_get(self, keys: list[str]) -> list[bytes]: ...

    def check(self, keys: list[str]) -> bool: ...


@dataclass(frozen=True, slots=True)
class Beat:
    """What a rank last said of itself."""

    number: int
    num_calls: int
    host: str


class Watch:
    """Watches this rank's waits. `leave` gets the line to print (None: another rank prints it) and ends the process.

    on_device: calls return at once and the device waits (NCCL), so the time since the last call began is looked at. It
    may be the time of honest work, too, so then only a rank that is lost or late ends the run.
    """

    def __init__(
        self, connect: Callable[[], Store], rank: int, num_ranks: int, minutes: float,
        leave: Callable[[str | None], None], waits: Waits = waits, *, on_device: bool = False,
    ) -> None:  # fmt: skip
        self._connect, self._store = connect, connect()
        self._rank, self._num_ranks, self._waits = rank, num_ranks, waits
        self._seconds, self._leave, self._on_device = minutes * 60, leave, on_device
        self._beats: dict[int, Beat] = {}
        self._seen_at: dict[int, float] = {}  # when each rank's beat last changed, as far as this rank has looked
        self._reached_at = time.monotonic()
        self._warned_of: Wait | None = None
        self._stopped = threading.Event()
        self._silence = _LOST_BEATS * BEAT_SECONDS
        # Long enough for work that lets no other thread of the rank run.
        self._patience = max(_LOST_BEATS * BEAT_SECONDS, self._seconds / 2)

    def start(self) -> None:
        """Say the first beat, and start both threads."""
        self._store.set(_key(self._rank), self._own_beat(0))
        for work in (self._beat, self._look):
            threading.Thread(target=work, daemon=True, name=f"watch-{work.__name__}").start()

    def stop(self) -> None:
        """End both threads."""
        self._stopped.set()

    def _own_beat(self, number: int) -> str:
        return json.dumps([number, self._waits.num_calls, socket.gethostname()])

    def _beat(self) -> None:
        number = 0
        while not self._stopped.wait(BEAT_SECONDS):
            number += 1
            try:
                self._store.set(_key(self._rank), self._own_beat(number))
                if self._store.check([_ENDED]):
                    self._stop_and_leave(None)
                    return
                wait = self._wait()
                if not self._beats or (wait is not None and wait.seconds > BEAT_SECONDS):
                    self._read_beats()
                self._reached_at = time.monotonic()
            except Exception:  # torch raises several kinds. `_look` sees that the store is not reached
                with suppress(Exception):
                    self._store = self._connect()

    def _read_beats(self) -> None:
        """The beats of all ranks: the hosts' names early, then only while this rank waits."""
        if not self._beats and not self._store.check([_key(rank) for rank in range(self._num_ranks)]):
            return
        now = time.monotonic()
        for rank, value in enumerate(self._store.multi_get([_key(rank) for rank in range(self._num_ranks)])):
            beat = Beat(*json.loads(value))
            if self._beats.get(rank) != beat:
                self._beats[rank], self._seen_at[rank] = beat, now

    def _look(self) -> None:
        while not self._stopped.wait(min(1.0, self._seconds / 4)):
            wait = self._wait()
            if wait is None:
                continue
            lost = self._lost(wait)
            if self._on_device and not lost and not self._late():
                continue
            limit = LONG_MINUTES * 60 if self._waits.may_be_long and not lost else self._seconds
            # One rank speaks for all; another does only if that one does not.
            if wait.seconds > limit + (0.0 if self._speaks(lost) else self._silence):
                self._end(wait, lost)
            elif self._warned_of != wait and wait.seconds > min(_WARN_SECONDS, limit / 2) and limit == self._seconds:
                self._warned_of = wait
                if self._speaks(lost):
                    _print(
                        f"warning: waiting for {self._missing(lost)} in {wait.name} for {wait.seconds:.0f} s; the run "
                        f"ends after {_duration(limit)} (training.timeout)"
                    )

    def _wait(self) -> Wait | None:
        return self._waits.last if self._on_device else self._waits.current()

    def _lost(self, wait: Wait) -> list[int]:
        """Ranks that have not been heard of for several beats. Rank 0's host keeps the store."""
        now, patience = time.monotonic(), self._patience
        if now - self._reached_at > patience:
            return [0] if self._rank != 0 else []
        if wait.seconds < patience:
            return []
        return [rank for rank, seen in self._seen_at.items() if rank != self._rank and now - seen > patience]

    def _end(self, wait: Wait, lost: Sequence[int]) -> None:
        line = (
            f"training.timeout: rank {self._rank} ({socket.gethostname()}) waited {_duration(wait.seconds)} in "
            f"{wait.name} for {self._missing(lost)}; start again to go on from the newest checkpoint, or raise "
            "training.timeout if it only takes longer"
        )
        self._stop_and_leave(line)

    def _stop_and_leave(self, line: str | None) -> None:
        self._stopped.set()
        # In a thread, because the store may not answer; the others need a moment to read it before rank 0 leaves.
        telling = threading.Thread(target=self._tell, daemon=True)
        if line is not None:
            _print(line)
        telling.start()
        telling.join(timeout=1.0)
        time.sleep(2 * BEAT_SECONDS if self._rank == 0 else 0.0)  # its store must outlast the others' last look
        self._leave(line)

    def _tell(self) -> None:
        with suppress(Exception):
            sys.stdout.flush()
            self._store.set(_ENDED, "yes")

    def _speaks(self, lost: Sequence[int]) -> bool:
        """Whether this is the first of the ranks that wait; if rank 0 cannot be reached, of those on this host."""
        waiting = [rank for rank in self._beats if rank not in lost and rank not in self._late()]
        if 0 in lost:
            host = socket.gethostname()
            waiting = [rank for rank in waiting if self._beats[rank].host == host]
        return self._rank == min([*waiting, self._rank])

    def _late(self) -> list[int]:
        return [rank for rank, beat in self._beats.items() if beat.num_calls < self._waits.num_calls]

    def _missing(self, lost: Sequence[int]) -> str:
        """The missing ranks with their hosts, in words."""
        if lost:
            return f"{_named(lost, self._beats)}, not heard of for more than {_duration(self._patience)}"
        if self._late():
            return f"{_named(self._late(), self._beats)}, which is alive, but has not come so far"
        return "all other ranks, which wait, too: the network between them carries nothing"


def join(minutes: float = DEFAULT_MINUTES) -> None:
    """Join the process group of the launcher's variables, and watch this rank's waits. Every rank must call it.

    minutes: the longest wait in one collective call, outside phases that are known to take long.
    """
    comm.initialise(max(LONG_MINUTES, minutes) + 5, minutes)  # this watch comes first, and names the rank
    if comm.world_size() == 1:
        return
    on_device, ranks = comm.device().type == "cuda", (comm.rank(), comm.world_size())
    watch = Watch(comm.second_connection, *ranks, minutes, lambda _: os._exit(statuses.CONTINUE), on_device=on_device)
    watch.start()
    comm.before_shutdown(watch.stop)


def join_if_launched() -> None:
    """`join`, for commands that also run as a single process without a group."""
    if "RANK" in os.environ:
        join()


def _key(rank: int) -> str:
    return f"beat/{rank}"


def _named(ranks: Sequence[int], beats: Mapping[int, Beat], most: int = 8) -> str:
    """`rank 3 (host-2), rank 4 (host-2) and 6 more`."""
    shown = [f"rank {rank} ({beats[rank].host if rank in beats else 'host unknown'})" for rank in ranks[:most]]
    return ", ".join(shown) + (f" and {len(ranks) - most} more" if len(ranks) > most else "")


def _duration(seconds: float) -> str:
    return f"{seconds / 60:.1f} min" if seconds >= 90 else f"{seconds:.0f} s"


def _print(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
