"""Communication between ranks. With a single process nothing is sent: each function returns this process's own value.

No other module imports torch.distributed. Outside `cli/`, which runs before torch is loaded, no other module reads the
rank or the number of ranks from the environment.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from harness.stopwatch import stopwatch

# torch 2.13 renamed both functions; torch 2.11 has the old names only.
_all_gather = getattr(dist, "all_gather_single", None) or dist.all_gather_into_tensor
_reduce_scatter = getattr(dist, "reduce_scatter_single", None) or dist.reduce_scatter_tensor

_communicates = stopwatch("communication")  # times the functions below, including the wait for other ranks

_SINGLE_PROCESS = {
    "RANK": "0",
    "LOCAL_RANK": "0",
    "WORLD_SIZE": "1",
    "MASTER_ADDR": "127.0.0.1",
}


def initialise(timeout_minutes: float = 60.0) -> None:
    """Join the process group that the launcher's environment variables describe; without them, form a group of one.

    Backend: nccl on CUDA, gloo elsewhere.
    """
    if dist.is_initialized():
        return
    single = "RANK" not in os.environ
    for name, value in _SINGLE_PROCESS.items():
        os.environ.setdefault(name, value)
    backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
    if torch.cuda.is_available():
        torch.cuda.set_device(local_rank())
    if single:  # port 0: the store picks a free one, so that several runs fit on one machine
        store = dist.TCPStore("127.0.0.1", 0, world_size=1, is_master=True)
        os.environ["MASTER_PORT"] = str(store.port)
        dist.init_process_group(backend, store=store, rank=0, world_size=1, timeout=timedelta(minutes=timeout_minutes))
    else:
        os.environ.setdefault("MASTER_PORT", "29500")
        dist.init_process_group(backend, timeout=timedelta(minutes=timeout_minutes))


def shutdown() -> None:
    """Leave the process group."""
    if dist.is_initialized():
        dist.destroy_process_group()


def rank() -> int:
    """This process's rank; 0 for a single process."""
    return dist.get_rank() if dist.is_initialized() else int(os.environ.get("RANK", "0"))


def local_rank() -> int:
    """This process's rank on its machine; 0 for a single process."""
    return int(os.environ.get("LOCAL_RANK", "0"))


def world_size() -> int:
    """Number of ranks; 1 for a single process."""
    return dist.get_world_size() if dist.is_initialized() else int(os.environ.get("WORLD_SIZE", "1"))


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


@_communicates
def all_gather_rows(local_RD: Tensor) -> Tensor:
    """Stack equally shaped [R, D] tensors of all ranks into [W * R, D], without a graph."""
    if _alone():
        return local_RD.detach()
    table = local_RD.new_empty((world_size() * local_RD.shape[0], *local_RD.shape[1:]))
    _all_gather(table, local_RD.detach().contiguous())
    return table


@_communicates
def reduce_scatter_rows(table_WRD: Tensor) -> Tensor:
    """Sum [W * R, D] tensors over ranks and return this rank's [R, D] rows."""
    if _alone():
        return table_WRD
    rows = table_WRD.shape[0] // world_size()
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
    if _alone():
        return value
    box = [value]
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
