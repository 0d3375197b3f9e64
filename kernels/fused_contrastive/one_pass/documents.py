"""Where the documents are: all at hand, or a part on every peer, passed round a ring."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

import torch
from torch import Tensor

from fused_contrastive.cosine import prefix_inverse_norms
from fused_contrastive.one_pass.tiles import Shard
from fused_contrastive.options import DocumentShard, Peers


class Documents(Protocol):
    """Visits every document of the whole table once per circle, shard by shard."""

    num_shards: int

    def circle(self, *, with_gradient: bool = False) -> Iterator[Shard]:
        """Shards to read; with gradient, what is added to their gradients arrives in `gradient`."""
        ...

    @property
    def gradient(self) -> Tensor:
        """[N, D] of the documents this caller brought, summed over all circles with gradient."""
        ...


class Gathered:
    """The whole table is one shard."""

    num_shards = 1

    def __init__(self, row_ND: Tensor, dims: tuple[int, ...], dtype: torch.dtype, needs_gradient: bool) -> None:
        self._gradient = torch.zeros_like(row_ND, dtype=dtype) if needs_gradient else None
        self._shard = Shard(0, row_ND, prefix_inverse_norms(row_ND, dims, dtype), self._gradient)

    def circle(self, *, with_gradient: bool = False) -> Iterator[Shard]:
        yield self._shard

    @property
    def gradient(self) -> Tensor:
        assert self._gradient is not None
        return self._gradient


class Ring:
    """Every peer holds some rows; they travel from peer to peer while tiles are computed (Inf-CL, arXiv 2410.17243).

    A shard's gradient follows one step behind it, so that its transfer, too, overlaps with the computation.
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
        place = torch.zeros(2, peers.count, dtype=torch.int64, device=row_ND.device)
        place[:, peers.rank] = torch.tensor([shard.first, len(row_ND)])
        self._first, self._length = peers.sum(place).tolist()
        self._check(shard.num_documents)

    def _check(self, num_documents: int) -> None:
        """Every peer sees the same numbers, so all of them raise or none."""
        end = 0
        for first, length in sorted(zip(self._first, self._length, strict=True)):
            if length and first != end:
                break
            end += length
        if end != num_documents:
            parts = ", ".join(f"{a} to {a + n}" for a, n in zip(self._first, self._length, strict=True))
            raise ValueError(
                f"info_nce shard.first: got documents {parts} from the peers, expected parts that follow each other "
                f"from 0 to {num_documents}"
            )

    def circle(self, *, with_gradient: bool = False) -> Iterator[Shard]:
        peers, row_CD, travelling = self.peers, self._row_ND, None
        for hop in range(peers.count):
            owner, next_owner = (peers.rank - hop) % peers.count, (peers.rank - hop - 1) % peers.count
            coming = peers.pass_on(row_CD, self._length[next_owner]) if hop + 1 < peers.count else None
            part_CD = torch.zeros_like(row_CD, dtype=self._dtype) if with_gradient else None
            yield Shard(self._first[owner], row_CD, prefix_inverse_norms(row_CD, self._dims, self._dtype), part_CD)
            if part_CD is not None:
                if travelling is not None:
                    part_CD += travelling.wait()
                travelling = peers.pass_on(part_CD, self._length[next_owner])
            if coming is not None:
                row_CD = coming.wait()
        if travelling is not None:
            self.gradient.add_(travelling.wait())

    @property
    def gradient(self) -> Tensor:
        assert self._gradient is not None
        return self._gradient
