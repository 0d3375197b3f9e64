"""What a launcher's environment says: which rank this process is, and over which network its ranks talk.

Run before torch is imported. What the launcher or the user has set stays as it is.
"""

from __future__ import annotations

import ipaddress
import os
import re
import socket
from collections.abc import MutableMapping

# Ports below those that Linux gives out to connections. Jobs that share a host must not meet at one.
FIRST_PORT, NUM_PORTS = 10_000, 20_000
_INTERFACES = ("GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME")


def take_ranks_of_slurm(environment: MutableMapping[str, str] = os.environ) -> None:
    """Set RANK, WORLD_SIZE, MASTER_ADDR and the like from the variables of `srun`, unless a launcher has set RANK.

    Variables of a step (SLURM_STEP_...) are set by `srun` alone, not in the batch script around it.

    Raises:
        ValueError: Slurm has hidden GPUs of the host from its tasks, which must see all of them.
    """
    num_tasks = int(environment.get("SLURM_STEP_NUM_TASKS", "1"))
    if "RANK" in environment or num_tasks == 1:
        return
    job, step = int(environment["SLURM_JOB_ID"]), int(environment.get("SLURM_STEP_ID", "0"))
    tasks_of_nodes = expand_counts(environment["SLURM_STEP_TASKS_PER_NODE"])
    num_local = tasks_of_nodes[int(environment["SLURM_NODEID"])]
    gpus = [gpu for gpu in environment.get("CUDA_VISIBLE_DEVICES", "").split(",") if gpu not in ("", "-1")]
    if gpus and len(gpus) < num_local:
        raise ValueError(
            f"srun: {num_local} tasks of {socket.gethostname()} see {len(gpus)} GPUs each, expected all of the host's; "
            "give --gpus-per-node and --gpu-bind=none in place of --gpus-per-task"
        )
    environment["RANK"], environment["LOCAL_RANK"] = environment["SLURM_PROCID"], environment["SLURM_LOCALID"]
    environment["WORLD_SIZE"], environment["LOCAL_WORLD_SIZE"] = str(num_tasks), str(num_local)
    environment.setdefault("MASTER_ADDR", first_host(environment["SLURM_STEP_NODELIST"]))
    environment.setdefault("MASTER_PORT", str(FIRST_PORT + (job * 101 + step) % NUM_PORTS))


def first_host(hosts: str) -> str:
    """The first of hosts in Slurm's notation: `node[07-09,12],login` is node07."""
    first = re.split(r",(?![^\[]*\])", hosts)[0]
    return re.sub(r"\[([^\],-]+)[^\]]*\]", r"\1", first)


def expand_counts(counts: str) -> list[int]:
    """Slurm's tasks of each host: `4(x2),1` is 4, 4, 1."""
    found = re.findall(r"(\d+)(?:\(x(\d+)\))?", counts)
    return [int(count) for count, times in found for _ in range(int(times or 1))]


def choose_network_interface(environment: MutableMapping[str, str] = os.environ) -> str | None:
    """Let gloo and NCCL use the network interface of the route to the master, unless the user has named one.

    By itself gloo takes the address of the host's own name, which on many hosts is 127.0.1.1, and then waits for ever.
    Returns a line that says what was chosen; None if all ranks are on this host or both variables are set.

    Raises:
        ValueError: the master's address is unknown here, cannot be reached, or is one that only this host has.
    """
    unset = [name for name in _INTERFACES if not environment.get(name)]
    master, num_ranks = environment.get("MASTER_ADDR", ""), environment.get("WORLD_SIZE", "1")
    num_local = environment.get("LOCAL_WORLD_SIZE") or environment.get("LOCAL_SIZE")  # torchrun, Slurm; DeepSpeed
    if not unset or not master or num_ranks in ("1", num_local):
        return None
    address = _own_address_towards(master, int(environment.get("MASTER_PORT", "29500")))
    if ipaddress.ip_address(address).is_loopback:
        if num_local is None:
            return None  # an unknown launcher, and a master on this host
        address = _only_outer_address(master, address)
    name = interface_of(address)
    for variable in unset:  # NCCL takes a name for the beginning of names, unless "=" stands before it
        environment[variable] = f"={name}" if variable.startswith("NCCL") else name
    return f"network: {name}, the route to {master}; {' and '.join(_INTERFACES)} choose another"


def interface_of(address: str) -> str:
    """The name of this host's network interface that has the address."""
    import psutil

    for name, entries in psutil.net_if_addrs().items():
        if any(entry.address.partition("%")[0] == address for entry in entries):
            return name
    raise ValueError(f"network: no interface of {socket.gethostname()} has {address}; set {' and '.join(_INTERFACES)}")


def _own_address_towards(master: str, port: int) -> str:
    """The address that this host has on the route to the master. Nothing is sent."""
    try:
        family, kind, _, _, place = socket.getaddrinfo(master, port, type=socket.SOCK_DGRAM)[0]
        with socket.socket(family, kind) as probe:
            probe.connect(place)
            return str(probe.getsockname()[0]).partition("%")[0]
    except OSError as error:
        raise ValueError(
            f"MASTER_ADDR: got {master}, which {socket.gethostname()} cannot reach ({error.strerror or error}), "
            "expected the first host's address in a network of all hosts; give --master_addr"
        ) from None


def _only_outer_address(master: str, address: str) -> str:
    """The one address by which other hosts can reach this host, whose own name is a loopback address here."""
    import psutil

    found = [
        entry.address
        for name, entries in psutil.net_if_addrs().items()
        if psutil.net_if_stats()[name].isup
        for entry in entries
        if entry.family == socket.AF_INET and not ipaddress.ip_address(entry.address).is_loopback
    ]
    if len(found) == 1:
        return found[0]
    raise ValueError(
        f"MASTER_ADDR: got {master}, which is {address} on {socket.gethostname()}, expected an address that other "
        f"hosts reach, too; give --master_addr, or set {' and '.join(_INTERFACES)}"
    )
