"""What the devices that runs are booked on can do: memory, rates of dense matrix products, bandwidths.

Numbers are those of the vendors' data sheets, without sparsity, in decimal units as printed there; the comment beside
each group names the sheet. A rate is what the sheet promises, not what a training reaches: see `UTILISATION`.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass

GB, TERA = 10**9, 10**12
RANKS_PER_HOST = 8  # GPUs of a DGX or HGX host, and of most hosts with PCIe cards


@dataclass(frozen=True, slots=True)
class Device:
    """A device. Rates: operations per second by the numbers they compute in. Bandwidths: bytes per second.

    link: from one device to the others of its host, one direction. network: from one device to other hosts, one
    direction, in the vendor's own host. None: not known.
    """

    name: str
    memory_bytes: int
    rates: Mapping[str, float | None]
    memory_bandwidth: float | None
    link: float | None
    network: float | None
    is_gpu: bool = True


def _gpu(
    name: str,
    gigabytes: float,
    fp32: float,
    fp16: float,
    bf16: float | None,
    memory: float,
    link: float,
    network: float | None = None,
) -> Device:
    """Sizes in GB, rates in TFLOP/s, bandwidths in GB/s. fp32: as PyTorch computes by default, without TF32."""
    rates = {"fp32": fp32 * TERA, "fp16": fp16 * TERA, "bf16": None if bf16 is None else bf16 * TERA}
    wire = None if network is None else network * GB
    return Device(name, int(gigabytes * 2**30), rates, memory * GB, link * GB, wire)


DEVICES: dict[str, Device] = {
    device.name: device
    for device in (
        # NVIDIA V100 datasheet, January 2020: NVLink 300 GB/s both ways; no bf16. DGX-1: 4 × 100 Gb/s.
        _gpu("V100-16", 16, 15.7, 125, None, 900, 150, 6.25),
        _gpu("V100-32", 32, 15.7, 125, None, 900, 150, 6.25),
        # NVIDIA T4 datasheet, March 2019: PCIe 3.0 × 16, 32 GB/s both ways; no bf16.
        _gpu("T4", 16, 8.1, 65, None, 320, 16),
        # NVIDIA A10 datasheet, 2021: PCIe 4.0 × 16, 64 GB/s both ways.
        _gpu("A10", 24, 31.2, 125, 125, 600, 32),
        # NVIDIA A100 datasheet, June 2021: NVLink 600 GB/s both ways. DGX A100: 8 × 200 Gb/s.
        _gpu("A100-40", 40, 19.5, 312, 312, 1555, 300, 25),
        _gpu("A100-80", 80, 19.5, 312, 312, 2039, 300, 25),
        # NVIDIA L4 datasheet, 2023 (dense is half of what it prints with sparsity): PCIe 4.0 × 16.
        _gpu("L4", 24, 30.3, 121, 121, 300, 32),
        # NVIDIA L40S datasheet, 2023: PCIe 4.0 × 16.
        _gpu("L40S", 48, 91.6, 362, 362, 864, 32),
        # NVIDIA H100 datasheet, 2023 (dense is half): SXM NVLink 900 GB/s both ways, PCIe 5.0 × 16 128 GB/s.
        # DGX H100: 8 × 400 Gb/s.
        _gpu("H100-SXM", 80, 67, 989.5, 989.5, 3350, 450, 50),
        _gpu("H100-PCIe", 80, 51, 756, 756, 2000, 64),
        # NVIDIA H200 datasheet, 2024 (dense is half): DGX H200: 8 × 400 Gb/s.
        _gpu("H200", 141e9 / 2**30, 67, 989.5, 989.5, 4800, 450, 50),
        # NVIDIA DGX B200 datasheet, 2024, per GPU (dense is half): 1,440 GB of 8 GPUs, NVLink 5 1.8 TB/s both ways.
        _gpu("B200", 180e9 / 2**30, 80, 2250, 2250, 8000, 900, 50),
        # NVIDIA Ampere GA102 whitepaper, 2020 (fp16 with fp32 sums, dense): PCIe 4.0 × 16.
        _gpu("RTX3090", 24, 35.6, 71, 71, 936, 32),
        # NVIDIA Ada GPU architecture whitepaper, 2022 (fp16 with fp32 sums, dense): PCIe 4.0 × 16.
        _gpu("RTX4090", 24, 82.6, 165.2, 165.2, 1008, 32),
    )
}
_OTHER_NAMES = {"A100": "A100-80", "H100": "H100-SXM", "V100": "V100-32", "RTX-3090": "RTX3090", "RTX-4090": "RTX4090"}


def named_device(name: str) -> Device:
    """The device of this name; capitals, blanks and underscores do not matter.

    Raises:
        ValueError: not in the table.
    """
    known = {_plain(key): device for key, device in DEVICES.items()}
    known |= {_plain(key): DEVICES[value] for key, value in _OTHER_NAMES.items()}
    found = known.get(_plain(name))
    if found is None:
        near = difflib.get_close_matches(_plain(name), known, 1)
        hint = f"; did you mean {known[near[0]].name}?" if near else "; leave --gpu out to plan for this machine"
        raise ValueError(f"--gpu: got {name}, expected one of {', '.join(DEVICES)}{hint}")
    return found


def device_of_cuda_name(name: str, memory_bytes: int) -> Device | None:
    """The row of the table for a name that CUDA reports, as `NVIDIA A100-SXM4-80GB`; None: not in the table."""
    plain = _plain(name.replace("GeForce", "").replace("NVIDIA", "").replace("Tesla", ""))
    fitting = [
        device
        for device in DEVICES.values()
        if plain.startswith(_plain(device.name.split("-")[0])) and abs(device.memory_bytes / memory_bytes - 1) < 0.15
    ]
    wanted = "pcie" if "pcie" in plain else "sxm"
    exact = [device for device in fitting if wanted in _plain(device.name)]
    return next(iter(exact or fitting), None)


def _plain(name: str) -> str:
    return "".join(letter for letter in name.lower() if letter.isalnum())
