"""Computes InfoNCE for a checked problem without a B x N matrix. Plain torch or Triton kernels compute the tiles.

The gradient is computed together with the value, so the backward pass only multiplies it by the upstream gradient. The
results are deterministic: there are no atomic operations, and every sum has a fixed order.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch.autograd.function import once_differentiable

from fused_contrastive.one_pass.accumulators import NeededGradients
from fused_contrastive.one_pass.documents import Documents, GatheredDocuments, RingDocuments
from fused_contrastive.one_pass.loss_pass import LossPass
from fused_contrastive.one_pass.tiles import Tiles
from fused_contrastive.problem import InfoNCEOutput, Problem


def fused(problem: Problem, tiles: Literal["torch", "triton"]) -> InfoNCEOutput:
    """The result of `reference` up to rounding. tiles: which implementation computes the tiles of the matrix."""
    inputs = (problem.query_BD, problem.document_ND, problem.temperature_B)
    needs = NeededGradients(*(torch.is_grad_enabled() and tensor.requires_grad for tensor in inputs))
    tiles_type = _tiles_type(tiles)
    with torch.no_grad(), torch.autocast(problem.query_BD.device.type, enabled=False):
        documents = _documents(problem, tiles_type.row_dtype(problem), needs.document)
        result = LossPass(problem, needs, documents, tiles_type).run()
        loss = (problem.normalized_weight_B * result.stats.loss_B).sum() + result.zero_or_nan
    gradients = (result.query_gradient_BD, result.document_gradient_ND, result.temperature_gradient_B)
    return InfoNCEOutput(_PrecomputedGradient.apply(loss, *gradients, *inputs), result.stats)


def _tiles_type(name: Literal["torch", "triton"]) -> type[Tiles]:
    if name == "triton":
        from fused_contrastive.triton.tiles import TritonTiles  # imported only here: Triton may not be installed

        return TritonTiles
    from fused_contrastive.one_pass.torch_tiles import TorchTiles

    return TorchTiles


def _documents(problem: Problem, row_dtype: torch.dtype, needs_gradient: bool) -> Documents:
    row_ND = problem.document_ND.detach().to(row_dtype).contiguous()
    if problem.shard is None:
        return GatheredDocuments(row_ND, problem.dims, problem.dtype, needs_gradient)
    assert problem.peers is not None
    return RingDocuments(row_ND, problem.dims, problem.dtype, needs_gradient, problem.peers, problem.shard)


class _PrecomputedGradient(torch.autograd.Function):
    """Returns a value in `forward`, and the precomputed gradient of each input (None: not needed) in `backward`.

    The gradient is rounded to the type of its input only after the multiplication by the upstream gradient. The
    upstream gradient may be a loss scale, and half-precision gradients could underflow without it.
    """

    @staticmethod
    def forward(ctx, value, query_gradient, document_gradient, temperature_gradient, *inputs):  # type: ignore[no-untyped-def]
        ctx.save_for_backward(query_gradient, document_gradient, temperature_gradient)
        ctx.dtypes = [tensor.dtype for tensor in inputs]
        return value.clone()

    @staticmethod
    @once_differentiable
    def backward(ctx, upstream):  # type: ignore[no-untyped-def]
        gradients = ctx.saved_tensors
        if upstream != 1:  # in the usual case, 1, the gradients are returned without a copy
            gradients = [None if gradient is None else gradient * upstream for gradient in gradients]
        typed = (None if g is None else g.to(dtype) for g, dtype in zip(gradients, ctx.dtypes, strict=True))
        return (None, None, None, None, *typed)
