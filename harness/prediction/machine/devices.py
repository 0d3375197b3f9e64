"""What the devices that runs are booked on can do: memory, rates of dense matrix products, bandwidths.

Rates and bandwidths are those of the vendors' data sheets, without sparsity; the comment beside each group names the
sheet. They were compared on 2026-11-28 with copies and quotations of the sheets, not with the sheets themselves. Sizes
of memory are those that `nvidia-smi` shows, which differ from the sheet's round number (L4, A10, L40S and T4 keep 6 %
for error correction). A rate is what the sheet promises, not what a training reaches: see `GPU_UTILISATION`.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass

GB, TERA, MEBIBYTE = 10**9, 10**12, 1 << 20
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
    mebibytes: int,
    fp32: float,
    half: tuple[float, float | None],
    memory: float,
    link: float,
    network: float | None = None,
) -> Device:
    """Rates in TFLOP/s, bandwidths in GB/s. fp32: as PyTorch computes by default, without TF32. half: fp16 and bf16."""
    fp16, bf16 = half
    rates = {"fp32": fp32 * TERA, "fp16": fp16 * TERA, "bf16": None if bf16 is None else bf16 * TERA}
    wire = None if network is None else network * GB
    return Device(name, mebibytes * MEBIBYTE, rates, memory * GB, link * GB, wire)


DEVICES: dict[str, Device] = {
    device.name: device
    for device in (
        # NVIDIA V100 datasheet: NVLink 300 GB/s both ways; no bf16.
        _gpu("V100-16", 16_160, 15.7, (125, None), 900, 150),
        _gpu("V100-32", 32_510, 15.7, (125, None), 900, 150),
        # NVIDIA T4 datasheet: PCIe 3.0 × 16, 32 GB/s both ways; no bf16.
        _gpu("T4", 15_360, 8.1, (65, None), 320, 16),
        # NVIDIA A10 datasheet: PCIe 4.0 × 16, 64 GB/s both ways.
        _gpu("A10", 23_028, 31.2, (125, 125), 600, 32),
        # NVIDIA A100 datasheet, SXM: NVLink 600 GB/s both ways. Hosts of 8 have a 200 Gb/s port for each.
        _gpu("A100-40", 40_960, 19.5, (312, 312), 1555, 300, 25),
        _gpu("A100-80", 81_920, 19.5, (312, 312), 2039, 300, 25),
        # NVIDIA L4 datasheet: 242 TFLOP/s with sparsity; PCIe 4.0 × 16.
        _gpu("L4", 23_034, 30.3, (121, 121), 300, 32),
        # NVIDIA L40S datasheet: 362.05 TFLOP/s, 733 with sparsity; PCIe 4.0 × 16.
        _gpu("L40S", 46_068, 91.6, (362, 362), 864, 32),
        # NVIDIA H100 datasheet: 1,979 (SXM) and 1,513 (PCIe) TFLOP/s with sparsity; NVLink 900 GB/s both ways, PCIe
        # 5.0 × 16 128 GB/s. NVIDIA DGX BasePOD reference architecture: 8 ports of 400 Gb/s in DGX H100, H200 and B200.
        _gpu("H100-SXM", 81_559, 67, (989.5, 989.5), 3350, 450, 50),
        _gpu("H100-PCIe", 81_559, 51, (756.5, 756.5), 2000, 64),
        # NVIDIA H200 datasheet: as H100 SXM, with more and faster memory.
        _gpu("H200", 143_771, 67, (989.5, 989.5), 4800, 450, 50),
        # NVIDIA HGX B200 datasheet, per GPU: 4,500 TFLOP/s with sparsity, NVLink 1.8 TB/s both ways.
        _gpu("B200", 183_359, 80, (2250, 2250), 8000, 900, 50),
        # NVIDIA Ampere GA102 whitepaper, appendix A (fp16 with fp32 sums, dense): PCIe 4.0 × 16.
        _gpu("RTX3090", 24_576, 35.6, (71, 71), 936, 32),
        # NVIDIA Ada GPU architecture whitepaper, appendix A (fp16 with fp32 sums, dense): PCIe 4.0 × 16.
        _gpu("RTX4090", 24_564, 82.6, (165.2, 165.2), 1008, 32),
    )
}
_CUDA_NAMES = {
    "V100-SXM2-16GB": "V100-16", "V100-SXM2-32GB": "V100-32", "T4": "T4", "A10": "A10", "A100-SXM4-40GB": "A100-40",
    "A100-SXM4-80GB": "A100-80", "L4": "L4", "L40S": "L40S", "H100 80GB HBM3": "H100-SXM", "H100 PCIe": "H100-PCIe",
    "H200": "H200", "B200": "B200", "RTX 3090": "RTX3090", "RTX 4090": "RTX4090",
}  # fmt: skip
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


def device_of_cuda_name(name: str) -> Device | None:
    """The row of the table for a name that CUDA reports; None: not in the table.

    Only the very card counts: an A10G, an A100 on PCIe or a laptop's RTX 4090 has other rates than its namesake.
    """
    for vendor in ("NVIDIA ", "GeForce ", "Tesla "):
        name = name.removeprefix(vendor)
    row = _CUDA_NAMES.get(name)
    return None if row is None else DEVICES[row]


def _plain(name: str) -> str:
    return "".join(letter for letter in name.lower() if letter.isalnum())
