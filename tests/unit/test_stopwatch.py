"""The stopwatch adds up seconds by name, also after an error, and measures the time of the device."""

from __future__ import annotations

import pytest
import torch

from harness import comm, stopwatch
from harness.stopwatch import Stopwatch


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The times that the stopwatch will read, in order."""
    times: list[float] = []
    monkeypatch.setattr(stopwatch.time, "perf_counter", lambda: times.pop(0))
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: False)
    return times


def test_seconds_of_a_name_add_up_and_are_forgotten_when_taken(clock: list[float]) -> None:
    clock += [0.0, 1.0, 5.0, 7.0, 10.0, 10.5]
    watch = Stopwatch()
    for name in ("embed", "embed", "score"):
        with watch(name):
            pass
    assert watch.take() == {"embed": 3.0, "score": 0.5}
    assert watch.take() == {}


def test_time_before_an_error_counts(clock: list[float]) -> None:
    clock += [0.0, 2.0]
    watch = Stopwatch()
    with pytest.raises(KeyError), watch("embed"):
        raise KeyError
    assert watch.take() == {"embed": 2.0}


def test_a_decorated_function_counts_at_every_call(clock: list[float]) -> None:
    clock += [0.0, 1.0, 2.0, 4.0]
    watch = Stopwatch()
    double = watch("doubling")(lambda x: 2 * x)
    assert [double(1), double(x=2)] == [2, 4]
    assert watch.take() == {"doubling": 3.0}


@pytest.mark.parametrize(
    "collective",
    [
        comm.barrier,
        lambda: comm.all_gather_rows(torch.zeros(1, 1)),
        lambda: comm.reduce_scatter_rows(torch.zeros(1, 1)),
        lambda: comm.all_reduce_sum(torch.zeros(1)),
        lambda: comm.all_reduce_max(torch.zeros(1)),
        lambda: comm.broadcast_object(1),
        lambda: comm.gather_objects(1),
        lambda: comm.RingPeers().pass_on(torch.zeros(1), 1),
        comm.PassedOn(torch.zeros(1), torch.zeros(1), []).wait,
    ],
)
def test_the_time_inside_every_collective_is_counted(collective, clock: list[float]) -> None:
    stopwatch.stopwatch.take()
    clock += [0.0, 3.0]
    collective()
    assert stopwatch.stopwatch.take() == {"communication": 3.0}


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
def test_on_a_gpu_a_place_pays_for_the_work_it_queued() -> None:
    """Queueing work takes almost no time, so a host clock would add the work's time to the place that waits for it."""
    matrix_NN = torch.randn(8192, 8192, device="cuda")
    matrix_NN @ matrix_NN
    torch.cuda.synchronize()
    watch = Stopwatch()
    with watch("queue"):
        for _ in range(20):
            product_NN = matrix_NN @ matrix_NN
    with watch("read"):
        float(product_NN[0, 0])
    seconds = watch.take()
    assert seconds["queue"] > 10 * seconds["read"]
