"""Seconds of a step on the rank with the most work: operations by the device's rate, bytes by its bandwidths."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from harness.prediction.machine.devices import RANKS_PER_HOST, Device

# The share of a device's matrix rate that a step reaches. On a CPU: 2 cores, all-MiniLM-L6-v2, fp32 (LOG.md). On a GPU
# not measured yet; published trainings of encoders reach 30 to 50 %.
CPU_UTILISATION, GPU_UTILISATION = 0.5, 0.4
_BYTES_PER_UPDATED_WEIGHT = 28  # AdamW reads weight, gradient and two moments, and writes three of them, in fp32


@dataclass(frozen=True, slots=True)
class Seconds:
    """Of one step; None: not known, because a rate is not. total: nothing is assumed to overlap."""

    compute: float | None
    optimizer: float | None
    communication: float | None

    @property
    def total(self) -> float | None:
        parts = (self.compute, self.optimizer, self.communication)
        return None if None in parts else sum(part for part in parts if part is not None)


def seconds(
    device: Device, numbers: str, flops: float, utilisation: float, updated: int, sent: Mapping[str, int], ranks: int
) -> Seconds:
    """flops: of one rank. updated: weights that one rank's optimizer updates. sent: bytes that one rank sends."""
    rate, memory, wire = device.rates.get(numbers), device.memory_bandwidth, bandwidth(device, ranks)
    return Seconds(
        compute=None if rate is None else flops / (rate * utilisation),
        optimizer=None if memory is None else updated * _BYTES_PER_UPDATED_WEIGHT / memory,
        communication=0.0 if ranks == 1 else None if wire is None else sum(sent.values()) / wire,
    )


def bandwidth(device: Device, ranks: int) -> float | None:
    """Bytes per second between ranks: the slower of link and network, if there are more ranks than a host has GPUs."""
    if ranks <= RANKS_PER_HOST and device.is_gpu:
        return device.link if device.link is not None else device.network
    return device.network
