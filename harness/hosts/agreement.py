"""Do all ranks and hosts agree? Facts of every rank are compared, and the rank and host that differs is named.

Also: whether all hosts see one shared folder, how far their clocks are apart, and how fast their network is.
"""

from __future__ import annotations

import json
import shutil
import socket
import statistics
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from harness import comm, rank0

CLOCK_SECONDS = 5.0  # clocks that differ by more make times in logs and files useless to compare
_GATHERED_BYTES = 64 << 20  # at most, on every rank
_ROW_BYTES = 4 << 20
_BARRIERS, _GATHERS = 5, 3
_SHOWN = 60  # characters of a value in a message


def hosts_of_ranks() -> list[str]:
    """The host of every rank. Every rank must call it."""
    return [str(host) for host in comm.gather_objects(socket.gethostname())]


def first_of_host(hosts: Sequence[str]) -> bool:
    """Whether this rank is the first of its host, and so speaks for it."""
    return hosts.index(hosts[comm.rank()]) == comm.rank()


def differences(facts_of_ranks: Sequence[Mapping[str, Any] | None], hosts: Sequence[str]) -> list[str]:
    """A line per fact in which ranks differ: which rank and host has what, and what most have.

    facts_of_ranks: of each rank; None or a missing fact: this rank does not say it.
    """
    lines = []
    names = dict.fromkeys(name for facts in facts_of_ranks for name in facts or ())
    for name in names:
        values = {rank: json.dumps(facts[name]) for rank, facts in enumerate(facts_of_ranks) if facts and name in facts}
        common = Counter(values.values()).most_common(1)[0][0]
        others: dict[str, list[int]] = {}
        for rank, value in values.items():
            if value != common:
                others.setdefault(value, []).append(rank)
        for value, ranks in others.items():
            first = next(rank for rank, found in values.items() if found == common)
            lines.append(
                f"{name}: got {_short(value)} on {named(ranks, hosts)}, expected {_short(common)} as on "
                f"{named([first], hosts)}"
            )
    return lines


def named(ranks: Sequence[int], hosts: Sequence[str], most: int = 4) -> str:
    """`rank 3 (host-2), rank 4 (host-2) and 6 more`."""
    shown = ", ".join(f"rank {rank} ({hosts[rank]})" for rank in ranks[:most])
    return shown + (f" and {len(ranks) - most} more" if len(ranks) > most else "")


def check_shared_folder(folder: Path, knob: str, hosts: Sequence[str]) -> None:
    """Check that every host sees what rank 0 writes into `folder`, and rank 0 what they write. Every rank calls it.

    A host may see another host's file a minute late (attribute caches of network file systems); that is waited for.

    Raises:
        ValueError: a host does not, or cannot write there; the first such rank and its host are named.
    """
    place = rank0.by_main(lambda: _place_to_try(folder))
    speaks = first_of_host(hosts)
    try:
        problems = rank0.by_each(lambda: _problem(lambda: _write_own(place)) if speaks else None)
        if not any(problems):
            speakers = [rank for rank in range(len(hosts)) if hosts.index(hosts[rank]) == rank]
            problems = rank0.by_each(lambda: _problem(lambda: _see_all(place, speakers)) if comm.is_main() else None)
        for rank, problem in enumerate(problems):
            if problem:
                raise ValueError(
                    f"{knob}: {named([rank], hosts)} {problem}, expected {folder} in a folder that all hosts share"
                )
    finally:
        if comm.is_main():
            shutil.rmtree(place, ignore_errors=True)


def clock_warnings(hosts: Sequence[str]) -> list[str]:
    """A line per host whose clock is far from that of rank 0's host. Every rank must call it."""
    comm.barrier()
    times = comm.gather_objects(time.time())
    return [
        f"clock: that of {hosts[rank]} differs from that of {hosts[0]} by {now - times[0]:+.0f} s; set it (ntp), or "
        "times in logs and files cannot be compared"
        for rank, now in enumerate(times)
        if abs(now - times[0]) > CLOCK_SECONDS and hosts.index(hosts[rank]) == rank
    ]


@dataclass(frozen=True, slots=True)
class NetworkSpeed:
    """What a small and a large collective take, seconds; `row_bytes` is what each rank gives to the large one."""

    barrier_seconds: float
    gather_seconds: float
    row_bytes: int
    num_ranks: int

    @property
    def received_per_second(self) -> float:
        """Bytes that a rank receives from the others in a second of the gather."""
        return self.row_bytes * (self.num_ranks - 1) / max(self.gather_seconds, 1e-9)

    def line(self) -> str:
        """The figures in words."""
        return (
            f"a barrier takes {self.barrier_seconds * 1e3:.2f} ms, a gather of {self.num_ranks} x "
            f"{self.row_bytes / 1e6:.1f} MB {self.gather_seconds * 1e3:.1f} ms "
            f"({self.received_per_second / 1e9:.2f} GB/s received by a rank)"
        )


def measure_network() -> NetworkSpeed:
    """Time barriers (median) and gathers (best) over all ranks. Every rank must call it."""
    row_bytes = min(_ROW_BYTES, _GATHERED_BYTES // comm.world_size())
    row = torch.zeros(1, row_bytes // 4, device=comm.device())
    comm.barrier()
    barriers = [_seconds(comm.barrier) for _ in range(_BARRIERS)]
    gathers = [_seconds(lambda: comm.all_gather_rows(row)) for _ in range(_GATHERS)]
    return NetworkSpeed(statistics.median(barriers), min(gathers), row_bytes, comm.world_size())


def _seconds(work: Callable[[], Any]) -> float:
    started = time.perf_counter()
    work()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - started


def _short(value: str) -> str:
    return value if len(value) <= _SHOWN else f"{value[:_SHOWN]}…"


def _place_to_try(folder: Path) -> Path:
    """A new folder beside the run's files, or where these will lie."""
    above = next(place for place in (folder.absolute(), *folder.absolute().parents) if place.is_dir())
    place = above / f".harness-check-{socket.gethostname()}-{time.time_ns()}"
    place.mkdir()
    return place


def _write_own(place: Path) -> None:
    rank0.wait_until_visible(place)
    (place / str(comm.rank())).touch()


def _see_all(place: Path, ranks: Sequence[int]) -> None:
    for rank in ranks:
        rank0.wait_until_visible(place / str(rank))


def _problem(work: Callable[[], None]) -> str | None:
    """What went wrong in `work`, in words that go on after a rank's name; None if nothing did."""
    try:
        work()
    except ValueError:
        return f"does not see what another host wrote {rank0.SHARED_FOLDER_SECONDS:.0f} s ago"
    except OSError as error:
        return f"cannot write there ({error.strerror or error})"
    return None
