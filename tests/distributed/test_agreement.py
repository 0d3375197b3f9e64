"""The start-up check on two ranks that play two hosts: a folder that is not shared, and what is measured."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness import comm, rank0
from harness.hosts import agreement
from tests.ranks import free_port, run_ranks

pytestmark = pytest.mark.distributed
HOSTS = ["host-1", "host-2"]


def tried(folder: str) -> dict[str, str]:
    """Runs on a rank: the message of each case."""
    rank0.SHARED_FOLDER_SECONDS, rank0.SIGN_OF_LIFE_SECONDS = 0.2, 0.05
    own = agreement._write_own

    def writes_elsewhere(place: Path) -> None:
        if comm.is_main():
            own(place)

    def sees_nothing(place: Path) -> None:
        own(place if comm.is_main() else place / "of another host")

    def read_only(place: Path) -> None:
        if comm.rank() == 1:
            raise PermissionError(13, "Permission denied")
        own(place)

    found = {}
    cases = {"shared": own, "unseen": writes_elsewhere, "blind": sees_nothing, "read-only": read_only}
    for name, write in cases.items():
        agreement._write_own = write
        try:
            agreement.check_shared_folder(Path(folder) / "runs" / "new", "output", HOSTS)
            found[name] = ""
        except ValueError as error:
            found[name] = str(error)
        comm.barrier()
    agreement._write_own = own
    speed = agreement.measure_network()
    found["speed"] = "good" if 0 < speed.barrier_seconds < 10 and speed.received_per_second > 1e5 else speed.line()
    return found


def test_a_folder_that_a_host_does_not_share_is_said_with_rank_and_host(tmp_path: Path) -> None:
    place = f"expected {tmp_path}/runs/new in a folder that all hosts share"
    for found in run_ranks(2, tried, str(tmp_path), timeout=90):
        assert found == {
            "shared": "",
            "unseen": f"output: rank 0 (host-1) does not see what another host wrote 0 s ago, {place}",
            "blind": f"output: rank 1 (host-2) does not see what another host wrote 0 s ago, {place}",
            "read-only": f"output: rank 1 (host-2) cannot write there (Permission denied), {place}",
            "speed": "good",
        }
    assert list(tmp_path.iterdir()) == []


def watched() -> str:
    """Runs on a rank: rank 1 does not come to a barrier; rank 0 says so over a real store, and both are ended."""
    import threading

    from harness.hosts import watch as watching

    watching.BEAT_SECONDS = 0.1
    lines: list[str | None] = []
    left = threading.Event()

    def leave(line: str | None) -> None:
        lines.append(line)
        left.set()

    from harness.waits import waits

    waits.start_is_over()
    watch = watching.Watch(comm.second_connection, comm.rank(), comm.world_size(), 0.02, leave)
    watch.start()
    comm.barrier()
    if comm.is_main():
        threading.Thread(target=comm.barrier, daemon=True).start()
    assert left.wait(20)
    return lines[0] or ""


def test_a_rank_that_does_not_come_ends_both_over_a_real_store() -> None:
    first, second = run_ranks(2, watched, timeout=90)
    assert "in barrier for rank 1 (" in first
    assert second == ""


def met_alone(number: str) -> str:
    """Runs on a rank: what it says of a second rank that never starts."""
    import os

    comm.shutdown()
    os.environ.update(RANK=number, WORLD_SIZE="2", MASTER_PORT=str(free_port()))
    with pytest.raises(ValueError, match=r".") as caught:
        comm.initialise(start_minutes=0.01)
    return str(caught.value)


def test_a_rank_that_never_starts_is_named() -> None:
    assert run_ranks(1, met_alone, "0", timeout=60)[0] == (
        "training.timeout: 1 of 2 ranks have not started within 0.01 minutes (ranks 1), expected all; look at their "
        "hosts"
    )


def test_a_rank_that_finds_no_meeting_point_says_which_it_is_and_where_it_looked() -> None:
    (said,) = run_ranks(1, met_alone, "1", timeout=60)
    assert said.startswith("MASTER_ADDR, MASTER_PORT: got 127.0.0.1, ")
    assert "where rank 1 (" in said
    assert said.count("\n") == 0
