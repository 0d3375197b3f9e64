"""InfoNCE without a B x N matrix: `chunked` in plain torch on any device, `triton` with its tiles in Triton.

The gradient is computed together with the value, so the backward pass only scales it. Deterministic: no atomics, sums
in a fixed order.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch.autograd.function import once_differentiable

from fused_contrastive.one_pass.documents import Documents, Gathered, Ring
from fused_contrastive.one_pass.loss_pass import LossPass
from fused_contrastive.one_pass.passes import Needs
from fused_contrastive.one_pass.tiles import Tiles
from fused_contrastive.problem import InfoNCEOutput, Problem


def fused(problem: Problem, tiles: Literal["torch", "triton"]) -> InfoNCEOutput:
    """The same numbers as `reference`, without a B x N matrix."""
    inputs = (problem.query_BD, problem.document_ND, problem.temperature_B)
    needs = Needs(*(torch.is_grad_enabled() and tensor.requires_grad for tensor in inputs))
    tiles_type = _tiles_type(tiles)
    with torch.no_grad(), torch.autocast(problem.query_BD.device.type, enabled=False):
        documents = _documents(problem, tiles_type.row_dtype(problem), needs.document)
        result = LossPass(problem, needs, documents, tiles_type).run()
        loss = (problem.normalized_weight_B * result.stats.loss_B).sum() + result.poison
    gradients = (result.query_BD, result.document_ND, result.temperature_B)
    return InfoNCEOutput(_KnownGradient.apply(loss, *gradients, *inputs), result.stats)


def _tiles_type(name: Literal["torch", "triton"]) -> type[Tiles]:
    if name == "triton":
        from fused_contrastive.triton.tiles import TritonTiles  # a machine without Triton can do without

        return TritonTiles
    from fused_contrastive.one_pass.torch_tiles import TorchTiles

    return TorchTiles


def _documents(problem: Problem, row_dtype: torch.dtype, needs_gradient: bool) -> Documents:
    row_ND = problem.document_ND.detach().to(row_dtype).contiguous()
    if problem.shard is None:
        return Gathered(row_ND, problem.dims, problem.dtype, needs_gradient)
    assert problem.peers is not None
    return Ring(row_ND, problem.dims, problem.dtype, needs_gradient, problem.peers, problem.shard)


class _KnownGradient(torch.autograd.Function):
    """A value whose gradient by each input is already known (None: not needed), in the type it was summed in.

    It is rounded to the input's type only after the upstream gradient has been multiplied in: a loss scale that keeps
    half-precision gradients in range comes from there.
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
        if upstream != 1:  # the usual case is 1: hand the gradients over without copying them
            gradients = [None if gradient is None else gradient * upstream for gradient in gradients]
        typed = (None if g is None else g.to(dtype) for g, dtype in zip(gradients, ctx.dtypes, strict=True))
        return (None, None, None, None, *typed)
