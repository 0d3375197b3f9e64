"""Divides queries and documents among processes. The documents are passed round a ring; no process holds all of them.

Starts three processes on this machine and compares their result with that of one process that has all rows.
Run: `python kernels/examples/ring.py`
"""

import tempfile

import torch
import torch.distributed as dist
from fused_contrastive import DocumentShard, Towers, info_nce
from torch import Tensor

NUM_PROCESSES, NUM_QUERIES, NUM_DOCUMENTS = 3, 12, 30


class Transfer:
    """Implements `fused_contrastive.PassedOn`. Keeps the sent tensor alive until both transfers are finished."""

    def __init__(self, sent: Tensor, received: Tensor, works: list[dist.Work]) -> None:
        self.sent, self.received, self.works = sent, received, works

    def wait(self) -> Tensor:
        for work in self.works:
            work.wait()
        return self.received


class TorchPeers:
    """Implements `fused_contrastive.Peers` with torch.distributed."""

    def __init__(self) -> None:
        self.rank, self.count = dist.get_rank(), dist.get_world_size()

    def sum(self, tensor: Tensor) -> Tensor:
        return self._reduced(tensor, dist.ReduceOp.SUM)

    def max(self, tensor: Tensor) -> Tensor:
        return self._reduced(tensor, dist.ReduceOp.MAX)

    def pass_on(self, tensor: Tensor, num_rows: int) -> Transfer:
        sent, received = tensor.contiguous(), tensor.new_empty(num_rows, *tensor.shape[1:])
        send = dist.P2POp(dist.isend, sent, (self.rank + 1) % self.count)
        receive = dist.P2POp(dist.irecv, received, (self.rank - 1) % self.count)
        return Transfer(sent, received, dist.batch_isend_irecv([send, receive]))

    def _reduced(self, tensor: Tensor, operation: dist.ReduceOp.RedOpType) -> Tensor:
        result = tensor.clone()
        dist.all_reduce(result, operation)
        return result


def run(rank: int, rendezvous: str) -> None:
    """One process: it holds a part of the queries and documents, and compares its queries with all documents."""
    dist.init_process_group("gloo", init_method=f"file://{rendezvous}", rank=rank, world_size=NUM_PROCESSES)
    torch.manual_seed(0)  # every process makes the same data and uses its part
    query_BD = torch.randn(NUM_QUERIES, 8).double()
    document_ND = torch.randn(NUM_DOCUMENTS, 8).double().requires_grad_()
    positive_B = torch.arange(NUM_QUERIES) * 2
    expected = info_nce(query_BD, document_ND, positive_B, temperature=0.1, towers=Towers(symmetric=True)).loss
    (expected_gradient_ND,) = torch.autograd.grad(expected, document_ND)

    first_query, first = rank * NUM_QUERIES // NUM_PROCESSES, rank * NUM_DOCUMENTS // NUM_PROCESSES
    queries = slice(first_query, (rank + 1) * NUM_QUERIES // NUM_PROCESSES)
    documents = slice(first, (rank + 1) * NUM_DOCUMENTS // NUM_PROCESSES)
    document_CD = document_ND[documents].detach().requires_grad_()
    peers = TorchPeers()
    loss, _ = info_nce(
        query_BD[queries],
        document_CD,
        positive_B[queries],  # rows of the whole table
        temperature=0.1,
        denominator=NUM_QUERIES,  # the number of queries of all processes
        towers=Towers(symmetric=True),
        peers=peers,
        shard=DocumentShard(first, NUM_DOCUMENTS),
    )
    # The gradient of the documents is complete: it includes the other processes' parts, sent round the ring.
    (gradient_CD,) = torch.autograd.grad(loss, document_CD)
    loss_error = (peers.sum(loss.detach()) - expected).abs().item()
    gradient_error = peers.max((gradient_CD - expected_gradient_ND[documents]).abs().max()).item()
    if rank == 0:
        print(f"{NUM_PROCESSES} processes against one: loss off by {loss_error:.0e}, gradient by {gradient_error:.0e}")
    dist.destroy_process_group()


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        torch.multiprocessing.spawn(run, (f"{folder}/rendezvous",), NUM_PROCESSES)


if __name__ == "__main__":
    main()
