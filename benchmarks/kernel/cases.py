"""The cases of the kernel benchmark: sizes, inputs and nominal number of operations.

Shape suffixes are explained in `fused_contrastive`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

TEMPERATURE = 0.05
KILO = 1024
DIMS_1024 = (256, 384, 512, 640, 768, 1024)
DIMS_1792 = (256, 512, 768, 1024, 1280, 1792)


@dataclass(frozen=True)
class Case:
    """B queries and N documents, with Matryoshka levels of `dims` columns. The last level has all D columns."""

    queries: int
    documents: int
    dims: tuple[int, ...]
    dtype: torch.dtype

    @property
    def width(self) -> int:
        return self.dims[-1]

    @property
    def forward_operations(self) -> int:
        """2BND for any number of levels. A side that needs one pass per level computes more, but the extra work is not
        counted.
        """
        return 2 * self.queries * self.documents * self.width

    @property
    def forward_backward_operations(self) -> int:
        """6BND for any number of levels."""
        return 3 * self.forward_operations

    @property
    def dtype_name(self) -> str:
        return str(self.dtype).removeprefix("torch.")

    def __str__(self) -> str:
        return f"B={self.queries} N={self.documents} D={self.width} K={len(self.dims)} {self.dtype_name}"


class Inputs(NamedTuple):
    """Unnormalised rows that require a gradient, and for each query the index of its positive document."""

    query_BD: Tensor
    document_ND: Tensor
    positive_B: Tensor


def make_inputs(case: Case, device: torch.device) -> Inputs:
    """Random rows. A positive is slightly similar to its query: the softmax is neither uniform nor saturated."""
    generator = torch.Generator(device).manual_seed(0)
    query_BD = torch.randn(case.queries, case.width, generator=generator, device=device)
    document_ND = torch.randn(case.documents, case.width, generator=generator, device=device)
    pairs = min(case.queries, case.documents)
    document_ND[:pairs] += 0.5 * query_BD[:pairs]
    positive_B = torch.arange(case.queries, device=device) % case.documents
    return Inputs(query_BD.to(case.dtype).requires_grad_(), document_ND.to(case.dtype).requires_grad_(), positive_B)


def cases(device: torch.device, sizes: str) -> list[Case]:
    """Return the cases of `--sizes small | goals | full`. `full` starts with the cases of `goals`."""
    table, dtype = (_CUDA, torch.bfloat16) if device.type == "cuda" else (_CPU, torch.float32)
    chosen = table["goals"] + table["full"] if sizes == "full" else table[sizes]
    return [Case(queries, documents, dims, dtype) for queries, documents, dims in dict.fromkeys(chosen)]


_Size = tuple[int, int, tuple[int, ...]]
_CPU: dict[str, list[_Size]] = {
    "small": [(256, 256, (128,)), (256, 384, (64, 128, 256))],
    "goals": [(4096, 4096, (768,)), (4096, 4096, DIMS_1792)],
    "full": [
        (queries, documents, dims)
        for queries, documents in ((1024, 1024), (4096, 4096), (1024, 16384))
        for dims in ((384,), (1024,), DIMS_1024, (1792,), DIMS_1792)
    ],
}
_CUDA: dict[str, list[_Size]] = {
    "small": [(2048, 2048, (384,)), (2048, 4096, DIMS_1792)],
    "goals": [
        (32 * KILO, 32 * KILO, (1024,)),
        (32 * KILO, 32 * KILO, DIMS_1792),
        (8 * KILO, 8 * KILO, (1024,)),
    ],
    "full": [
        (queries, documents, dims)
        for queries, documents in ((8 * KILO, 8 * KILO), (32 * KILO, 32 * KILO), (8 * KILO, 64 * KILO))
        for dims in ((384,), (1024,), DIMS_1024, (1792,), DIMS_1792)
    ],
}
