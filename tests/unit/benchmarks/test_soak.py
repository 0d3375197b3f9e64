"""A run whose memory, seconds or open files grow is not flat; one that settles first and swings is."""

from benchmarks.soak.benchmark import Sample, judge


def samples(num_bytes=lambda i: 10**9, num_files=lambda i: 20, seconds=lambda i: 0.02):
    return [Sample(10 * i, int(num_bytes(i)), num_files(i), seconds(i)) for i in range(1, 1_001)]


def test_a_flat_run_is_flat():
    assert judge(samples()).problems == []
    assert judge(samples(lambda i: 10**9 * (1 - 0.5 / i), seconds=lambda i: 0.02 + 0.01 * (i % 7 == 0))).problems == []


def test_what_grows_is_named():
    assert judge(samples(lambda i: 10**9 * (1 + i / 20_000))).problems == ["memory grew by 4.5%"]
    assert judge(samples(num_files=lambda i: 20 + i // 500)).problems == ["open files grew from 20 to 22"]
    (problem,) = judge(samples(seconds=lambda i: 0.02 * (1 + i / 2_000))).problems
    assert problem.startswith("steps took 4")
