"""What fits into memory: the tokens of a micro-batch when the recipe says `auto`, and the memory that is still free."""

from __future__ import annotations

import resource
import sys
from pathlib import Path

import psutil
import torch

from harness import comm
from harness.encoder.encoder import Encoder
from harness.engine.precision import ACTIVATIONS

# Fewer are padded less, more add up fewer gradients: with kept graphs a bf16 step of MiniLM on 2 cores takes 14 % less
# time than with 1,024, and 4 % more than with 4,096, whose graphs are large (LOG.md, 2026-11-28).
CPU_TOKENS = 2048
CPU_TOKENS_WITHOUT_GRAPHS = 1024  # where no graph is kept, for which one asks to save memory
_SHARE_OF_FREE_MEMORY = 0.4
_MOST_TOKENS = 1 << 18

# How much of the free memory the graphs of a step may take. The rest of a host's memory is also its file cache, from
# which data is read, and belongs to other processes, too. On a GPU blocks of many sizes leave gaps.
SHARE_ON_CPU, SHARE_ON_GPU = 0.5, 0.75


def micro_batch_tokens(
    setting: int | str, encoder: Encoder, precision: str, activation_memory: int | str = "auto"
) -> int:
    """Tokens of a micro-batch, equal on all ranks: the recipe's number, or for `auto` on a GPU what fits into 40 % of
    the free memory."""
    if setting != "auto":
        return int(setting)
    if comm.device().type == "cpu":
        return cpu_tokens(activation_memory)
    free, _ = torch.cuda.mem_get_info(comm.device())
    fitting_tokens = tokens_that_fit(free, encoder, precision)
    negated_tokens = torch.tensor([-fitting_tokens], device=comm.device())
    return -int(comm.all_reduce_max(negated_tokens))  # the minimum over ranks


def cpu_tokens(activation_memory: int | str) -> int:
    """Tokens of a micro-batch on a CPU, for `auto`."""
    return CPU_TOKENS_WITHOUT_GRAPHS if activation_memory == 0 else CPU_TOKENS


def tokens_that_fit(free: int, encoder: Encoder, precision: str) -> int:
    """Tokens whose activations take 40 % of these bytes of a GPU, within bounds.

    One token's activations take layers · 34 · hidden bytes in half precision (Korthikanti et al. 2022, arXiv
    2205.05198, eq. 1, without its attention matrix, which fused attention does not store).
    """
    settings = encoder.backbone.config
    bytes_per_token = settings.num_hidden_layers * 34 * settings.hidden_size * ACTIVATIONS[precision]
    return max(512, min(_MOST_TOKENS, int(free * _SHARE_OF_FREE_MEMORY) // int(bytes_per_token)))


def peak_memory_bytes() -> int:
    """The most memory this rank has held so far: GPU memory if it computes there, else resident memory."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024  # macOS counts bytes, Linux KiB


def free_bytes() -> tuple[float, float]:
    """(bytes that are free beside what a step needs, the share of them that may be taken): the least of all ranks.

    What a step needs is what this rank has ever held. Ranks of one host divide its memory evenly; a GPU is one rank's.
    Every rank must call it, after a step.
    """
    if comm.device().type == "cuda":
        free, _ = torch.cuda.mem_get_info(comm.device())
        unused_by_torch = torch.cuda.memory_reserved() - torch.cuda.memory_allocated()
        fallen = peak_memory_bytes() - torch.cuda.memory_allocated()
        return max(0.0, min(comm.gather_objects(float(free + unused_by_torch - fallen)))), SHARE_ON_GPU
    comm.barrier()  # no rank reads the host's memory while another is still within a step
    fallen = max(0, peak_memory_bytes() - psutil.Process().memory_info().rss)
    ranks = comm.gather_objects((_host(), float(free_host_bytes()), float(fallen)))
    hosts = {host for host, _, _ in ranks}
    on = {name: [(free, fallen) for host, free, fallen in ranks if host == name] for name in hosts}
    shares = [(min(free for free, _ in its) - sum(fallen for _, fallen in its)) / len(its) for its in on.values()]
    return max(0.0, min(shares)), SHARE_ON_CPU


def free_host_bytes(cgroups: Path = Path("/sys/fs/cgroup"), own_cgroup: Path = Path("/proc/self/cgroup")) -> int:
    """Bytes that this host can still give: what its memory has available, or what the limit of a container leaves.

    cgroups, own_cgroup: where Linux shows the limits of containers (v2 and v1), and in which one this process is.
    """
    left = [psutil.virtual_memory().available]
    names = own_cgroup.read_text().splitlines() if own_cgroup.exists() else []
    for number, controllers, name in (line.split(":", 2) for line in names):
        version_2 = number == "0"
        if not version_2 and "memory" not in controllers.split(","):
            continue
        root = cgroups if version_2 else cgroups / "memory"
        folder = root / name.lstrip("/")
        inside = (folder, *folder.parents[: len(folder.relative_to(root).parts)])
        left += [found for place in inside if (found := _left_in(place, version_2=version_2)) is not None]
    return min(left)


def _left_in(folder: Path, *, version_2: bool) -> int | None:
    """Bytes that a control group leaves; None without a limit. Cached files, which can be dropped, count as free."""
    limit, used, cached = (
        ("memory.max", "memory.current", "inactive_file")
        if version_2
        else ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
    )
    try:
        most, taken = (folder / limit).read_text().strip(), int((folder / used).read_text())
        facts = dict(line.split() for line in (folder / "memory.stat").read_text().splitlines())
    except (OSError, ValueError):
        return None
    return None if most == "max" else max(0, int(most) - taken + int(facts.get(cached, 0)))


def _host() -> str:
    """A name of this machine, the same in all its containers."""
    boot = Path("/proc/sys/kernel/random/boot_id")
    return boot.read_text().strip() if boot.exists() else str(psutil.boot_time())
