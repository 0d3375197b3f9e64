"""Access to the documents: all of them are in this process, or every peer has a shard and passes it round a ring."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

import torch
from torch import Tensor

from fused_contrastive.cosine import prefix_inverse_norms
from fused_contrastive.one_pass.tiles import Shard
from fused_contrastive.options import DocumentShard, Peers


class Documents(Protocol):
    """The document table, visited shard by shard."""

    num_shards: int

    def shards(self, *, with_gradient: bool = False) -> Iterator[Shard]:
        """Yields shards that together contain every document of the whole table once.

        with_gradient: what the caller adds to `Shard.gradient_CD` is added to `gradient` in the peer that owns the
        shard.
        """
        ...

    @property
    def gradient(self) -> Tensor:
        """[N, D]: the gradient of this caller's documents, summed over all peers and all calls `with_gradient`."""
        ...


class GatheredDocuments:
    """The whole document table in this process, as one shard."""

    num_shards = 1

    def __init__(self, row_ND: Tensor, dims: tuple[int, ...], dtype: torch.dtype, needs_gradient: bool) -> None:
        self._gradient = torch.zeros_like(row_ND, dtype=dtype) if needs_gradient else None
        self._shard = Shard(0, row_ND, prefix_inverse_norms(row_ND, dims, dtype), self._gradient)

    def shards(self, *, with_gradient: bool = False) -> Iterator[Shard]:
        yield self._shard

    @property
    def gradient(self) -> Tensor:
        assert self._gradient is not None
        return self._gradient


class RingDocuments:
    """Every peer owns a shard; peers pass shards on while tiles are computed (Inf-CL, arXiv 2410.17243).

    The gradient of a shard is sent one hop later than the shard, so that this transfer also overlaps with computation.
    """

    def __init__(
        self,
        row_ND: Tensor,
        dims: tuple[int, ...],
        dtype: torch.dtype,
        needs_gradient: bool,
        peers: Peers,
        shard: DocumentShard,
    ) -> None:
        self.peers, self.num_shards = peers, peers.count
        self._row_ND, self._dims, self._dtype = row_ND, dims, dtype
        self._gradient = torch.zeros_like(row_ND, dtype=dtype) if needs_gradient else None
        first_and_length = torch.zeros(2, peers.count, dtype=torch.int64, device=row_ND.device)
        first_and_length[:, peers.rank] = torch.tensor([shard.first, len(row_ND)])
        self._first, self._length = peers.sum(first_and_length).tolist()
        self._check_cover(shard.num_documents)

    def _check_cover(self, num_documents: int) -> None:
        """Require that the shards cover the table without gaps. All peers have equal numbers, so all raise or none."""
        end = 0
        for first, length in sorted(zip(self._first, self._length, strict=True)):
            if length and first != end:
                break
            end += length
        if end != num_documents:
            shards = ", ".join(f"{a} to {a + n}" for a, n in zip(self._first, self._length, strict=True))
            raise ValueError(
                f"info_nce shard.first: got documents {shards} from the peers, expected parts that follow each other "
                f"from 0 to {num_documents}"
            )

    def shards(self, *, with_gradient: bool = False) -> Iterator[Shard]:
        peers, row_CD, gradient_transfer = self.peers, self._row_ND, None
        for hop in range(peers.count):
            owner, next_owner = (peers.rank - hop) % peers.count, (peers.rank - hop - 1) % peers.count
            row_transfer = peers.pass_on(row_CD, self._length[next_owner]) if hop + 1 < peers.count else None
            part_CD = torch.zeros_like(row_CD, dtype=self._dtype) if with_gradient else None
            yield Shard(self._first[owner], row_CD, prefix_inverse_norms(row_CD, self._dims, self._dtype), part_CD)
            if part_CD is not None:
                if gradient_transfer is not None:
                    part_CD += gradient_transfer.wait()
                gradient_transfer = peers.pass_on(part_CD, self._length[next_owner])
            if row_transfer is not None:
                row_CD = row_transfer.wait()
        if gradient_transfer is not None:
            self.gradient.add_(gradient_transfer.wait())

    @property
    def gradient(self) -> Tensor:
        assert self._gradient is not None
        return self._gradient
