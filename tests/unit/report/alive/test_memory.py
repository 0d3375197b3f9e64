"""Memory that keeps growing is warned of once; memory that was filled, jumps or swings is not."""

import mmap
import random
from pathlib import Path

from benchmarks.runner.process import in_own_process
from harness.report.alive.memory import MemoryGrowth, own_bytes

MB = 1_000_000
STEPS = 20_000


def warnings(bytes_of_step, steps=STEPS):
    growth = MemoryGrowth("rank 1 (b)")
    found = [(step, growth.message(int(bytes_of_step(step)))) for step in range(1, steps + 1)]
    return [(step, message) for step, message in found if message is not None]


def test_a_leak_is_told_once_with_its_rate_before_it_is_large():
    ((step, message),) = warnings(lambda step: 1_000 * MB + step * 100_000)
    assert step < 2_000
    assert message.startswith("rank 1 (b): memory keeps growing, from at most 1.01 GB in its first 100 steps to ")
    assert "about 100 kB a step" in message


def test_a_slow_leak_is_told_too_though_every_step_swings_by_more_than_it():
    chance = random.Random(0)
    ((step, message),) = warnings(lambda step: 1_000 * MB + step * 10_000 + chance.randrange(50 * MB))
    assert 6_000 < step < STEPS
    assert "about 10 kB a step" in message or "about 9 kB a step" in message or "about 11 kB a step" in message


def test_memory_of_usual_runs_is_no_alarm():
    chance = random.Random(0)
    for usual in (
        lambda step: 1_000 * MB,
        lambda step: 1_000 * MB + chance.randrange(200 * MB),  # texts of different lengths
        lambda step: (1_000 + 900 * min(1.0, step / 80)) * MB,  # fills in the first steps
        lambda step: (1_000 + 300 * (step > 500) + 300 * (step > 5_000)) * MB,  # an evaluation, a ranking anew
        lambda step: (1_000 + 200 * (1 - 0.5 ** (step / 100))) * MB,  # comes to rest
        lambda step: (1_000 + (step % 400) * 0.5) * MB,  # grows and is given back
    ):
        assert warnings(usual) == []


SIZE = 64 << 20


def growth(file: Path) -> tuple[int, int]:
    """By how many bytes this process grows with a text of SIZE bytes, and with reading a mapped file of that size."""
    before = own_bytes()
    held = bytearray(b"x") * SIZE
    grown = own_bytes() - before
    with file.open("rb") as stream, mmap.mmap(stream.fileno(), 0, prot=mmap.PROT_READ) as mapped:
        before = own_bytes()
        assert sum(mapped[i] for i in range(0, SIZE, 4096)) == 0
        of_file = own_bytes() - before
    assert len(held) == SIZE
    return grown, of_file


def test_own_bytes_grow_with_what_is_written_to_and_not_with_mapped_files(tmp_path):
    """In a process of its own: this one may hold freed memory, which other tests have left and which is used first."""
    (tmp_path / "file").write_bytes(bytes(SIZE))
    grown, of_file = in_own_process(growth, tmp_path / "file")
    assert grown > 0.9 * SIZE
    assert of_file < 0.1 * SIZE
