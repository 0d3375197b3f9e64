"""Communication between ranks. With a single process nothing is sent: each function returns this process's own value.

Only this module imports torch.distributed and, outside `cli/`, reads ranks from the environment.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Sequence
from datetime import timedelta
from functools import wraps
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from harness.process.own_variables import set_variable, take_back_variables
from harness.stopwatch import stopwatch
from harness.waits import waits

Function = TypeVar("Function", bound=Callable[..., Any])

# torch 2.13 renamed both functions; torch 2.11 has the old names only.
_all_gather = getattr(dist, "all_gather_single", None) or dist.all_gather_into_tensor
_reduce_scatter = getattr(dist, "reduce_scatter_single", None) or dist.reduce_scatter_tensor

_from_other_hosts = 0  # see `embedding_bytes_from_other_hosts`
_before_shutdown: list[Callable[[], None]] = []


def _communicates(function: Function) -> Function:
    """Time a function below, including its wait for other ranks, and let `waits` know of it."""
    timed = stopwatch("communication")(function)
    return wraps(function)(waits(function.__name__)(timed))  # type: ignore[return-value]


_SINGLE_PROCESS = {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "1", "MASTER_ADDR": "127.0.0.1"}


def initialise(timeout_minutes: float = 60.0, start_minutes: float = 10.0) -> None:
    """Join the process group that the launcher's environment variables describe; without them, form a group of one.

    Backend: nccl on CUDA, gloo elsewhere. start_minutes: how long ranks that are there wait for those that are not yet.

    Raises:
        ValueError: the ranks cannot meet, or some of them have not started in time; the message names them.
    """
    if has_joined():
        return
    single = "RANK" not in os.environ
    for name, value in _SINGLE_PROCESS.items():
        set_variable(name, value)
    backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
    if torch.cuda.is_available():
        torch.cuda.set_device(local_rank())
    if single:  # port 0: the store picks a free one, so that several runs fit on one machine
        store = dist.TCPStore("127.0.0.1", 0, world_size=1, is_master=True)
        os.environ.pop("MASTER_PORT", None)
        set_variable("MASTER_PORT", str(store.port))
    else:
        set_variable("MASTER_PORT", "29500")
        store = _meet(start_minutes)
    limit = timedelta(minutes=timeout_minutes)
    dist.init_process_group(backend, store=store, rank=rank(), world_size=world_size(), timeout=limit)


def has_joined() -> bool:
    """Whether this process is in a process group, whoever has formed it."""
    return dist.is_initialized()


def _meet(minutes: float) -> dist.TCPStore:
    """The store at the meeting point, once all ranks have come there. torch would wait, too, but name nobody."""
    address, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
    opens = rank() == 0 and os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != "True"  # torchrun has opened it
    limit = timedelta(minutes=minutes)
    try:
        store = dist.TCPStore(address, port, world_size(), opens, limit, wait_for_workers=False, multi_tenant=True)
        store.set(f"here/{rank()}", "")
        if rank() == 0:
            _call_roll(store, minutes)
            store.set("all_here", "")
        store.wait(["all_here"])
    except dist.DistError as error:
        raise ValueError(
            f"MASTER_ADDR, MASTER_PORT: got {address}, {port}, where rank {rank()} ({socket.gethostname()}) cannot "
            f"meet the others ({str(error).splitlines()[0]}), expected a free port of rank 0's host; see "
            "--master_addr, --master_port, and whether all hosts have started"
        ) from error
    return store


def _call_roll(store: dist.TCPStore, minutes: float) -> None:
    keys, deadline = [f"here/{number}" for number in range(world_size())], time.monotonic() + minutes * 60
    while not store.check(keys):
        if time.monotonic() > deadline:
            missing = [number for number, key in enumerate(keys) if not store.check([key])]
            raise ValueError(
                f"training.timeout: {len(missing)} of {world_size()} ranks have not started within {minutes:g} minutes "
                f"(ranks {', '.join(map(str, missing[:16]))}), expected all; look at their hosts"
            )
        time.sleep(0.05)


def shutdown() -> None:
    """Leave the process group; after it another may be joined, and the environment is what it was before."""
    while _before_shutdown:
        _before_shutdown.pop()()
    if has_joined():
        dist.destroy_process_group()
    take_back_variables()


def before_shutdown(work: Callable[[], None]) -> None:
    """Call `work` when this process leaves the group in order."""
    _before_shutdown.append(work)


def second_connection() -> dist.Store:
    """Another connection to the store through which the ranks have found each other.

    A call that waits on the group's own connection would hold up all other calls on it.
    """
    address, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
    store = dist.TCPStore(address, port, is_master=False, wait_for_workers=False, timeout=timedelta(seconds=60))
    return dist.PrefixStore(f"harness/{os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')}", store)


def rank() -> int:
    """This process's rank; 0 for a single process."""
    return dist.get_rank() if dist.is_initialized() else int(os.environ.get("RANK", "0"))


def local_rank() -> int:
    """This process's rank on its machine; 0 for a single process."""
    return int(os.environ.get("LOCAL_RANK", "0"))


def world_size() -> int:
    """Number of ranks; 1 for a single process."""
    return dist.get_world_size() if dist.is_initialized() else int(os.environ.get("WORLD_SIZE", "1"))


def local_world_size() -> int:
    """Number of ranks on this machine, as the launcher says; without a word of it, all of them."""
    said = os.environ.get("LOCAL_WORLD_SIZE") or os.environ.get("LOCAL_SIZE")  # torchrun, Slurm; DeepSpeed
    return int(said) if said else world_size()


def embedding_bytes_from_other_hosts() -> int:
    """Bytes of embeddings and their gradients that other machines' ranks have given to this rank so far."""
    return _from_other_hosts


def is_main() -> bool:
    """Whether this is the rank that writes files and talks to the user."""
    return rank() == 0


def device() -> torch.device:
    """The device this rank computes on."""
    return torch.device("cuda", local_rank()) if torch.cuda.is_available() else torch.device("cpu")


def _alone() -> bool:
    return not dist.is_initialized() or dist.get_world_size() == 1


@_communicates
def barrier() -> None:
    """Wait for every rank."""
    if not _alone():
        dist.barrier()


def _count_from_other_hosts(bytes_of_a_rank: int, num_ranks: int | None = None) -> None:
    """num_ranks: ranks of other machines that give so many bytes each; None: all of these ranks."""
    global _from_other_hosts
    _from_other_hosts += bytes_of_a_rank * (world_size() - local_world_size() if num_ranks is None else num_ranks)


@_communicates
def all_gather_rows(local_RD: Tensor) -> Tensor:
    """Stack equally shaped [R, D] tensors of all ranks into [W * R, D], without a graph."""
    if _alone():
        return local_RD.detach()
    _count_from_other_hosts(local_RD.nbytes)
    table = local_RD.new_empty((world_size() * local_RD.shape[0], *local_RD.shape[1:]))
    _all_gather(table, local_RD.detach().contiguous())
    return table


@_communicates
def reduce_scatter_rows(table_WRD: Tensor) -> Tensor:
    """Sum [W * R, D] tensors over ranks and return this rank's [R, D] rows."""
    if _alone():
        return table_WRD
    rows = table_WRD.shape[0] // world_size()
    _count_from_other_hosts(table_WRD.nbytes // world_size())
    if table_WRD.is_cuda:
        local = table_WRD.new_empty((rows, *table_WRD.shape[1:]))
        _reduce_scatter(local, table_WRD.contiguous())
        return local
    dist.all_reduce(table_WRD)  # gloo has no fast reduce-scatter
    return table_WRD[rank() * rows : (rank() + 1) * rows].clone()


@_communicates
def all_reduce_sum(value: Tensor) -> Tensor:
    """Sum over ranks, in place."""
    if not _alone():
        dist.all_reduce(value)
    return value


@_communicates
def all_reduce_max(value: Tensor) -> Tensor:
    """Maximum over ranks, in place."""
    if not _alone():
        dist.all_reduce(value, op=dist.ReduceOp.MAX)
    return value


@_communicates
def on_any_rank(flag: bool) -> bool:
    """Whether the flag is set on at least one rank; every rank gets the same answer."""
    if _alone():
        return flag
    flags = torch.tensor([flag], dtype=torch.uint8)  # in CPU memory, so that a GPU is not waited for
    dist.all_reduce(flags, op=dist.ReduceOp.MAX)
    return bool(flags)


def sign_of_life() -> None:
    """Exchange a message with all ranks, so that none of them waits for long in one call for a slower one."""
    if not _alone():
        all_reduce_max(torch.zeros(1, device=device()))


@_communicates
def broadcast_object(value: Any) -> Any:
    """Rank 0's value, on every rank."""
    box = [value]
    if not _alone():
        dist.broadcast_object_list(box, src=0)
    return box[0]


@_communicates
def gather_objects(value: Any) -> Sequence[Any]:
    """Every rank's value, in rank order, on every rank."""
    if _alone():
        return [value]
    values: list[Any] = [None] * world_size()
    dist.all_gather_object(values, value)
    return values


class RingPeers:
    """Implements `fused_contrastive.Peers`: reduces tensors over all ranks and passes tensors round a ring of them."""

    def __init__(self) -> None:
        self.rank, self.count = rank(), world_size()

    def sum(self, tensor: Tensor) -> Tensor:
        return all_reduce_sum(tensor.clone())

    def max(self, tensor: Tensor) -> Tensor:
        return all_reduce_max(tensor.clone())

    @_communicates
    def pass_on(self, tensor: Tensor, num_rows: int) -> PassedOn:
        """Start to send to the next rank and to receive `num_rows` rows from the previous one."""
        if _alone():
            return PassedOn(tensor, tensor, [])
        received = tensor.new_empty((num_rows, *tensor.shape[1:]))
        is_first_of_host = self.rank % local_world_size() == 0 and self.count > local_world_size()
        _count_from_other_hosts(received.nbytes, int(is_first_of_host))  # the previous rank is of another machine
        next_rank, previous_rank = (self.rank + 1) % self.count, (self.rank - 1) % self.count
        sending = dist.P2POp(dist.isend, tensor.contiguous(), next_rank)
        receiving = dist.P2POp(dist.irecv, received, previous_rank)
        return PassedOn(sending.tensor, received, dist.batch_isend_irecv([sending, receiving]))


class PassedOn:
    """Two transfers in progress: a tensor is sent to the next rank, and another is received from the previous rank."""

    def __init__(self, sent: Tensor, received: Tensor, works: Sequence[dist.Work]) -> None:
        self._sent = sent  # keeps its memory until it has been sent
        self._received, self._works = received, works

    @_communicates
    def wait(self) -> Tensor:
        """Wait until both transfers have ended and return the received tensor."""
        for work in self._works:
            work.wait()
        return self._received
