"""InfoNCE with memory linear in B + N, in plain torch on any device.

The gradient is computed together with the value (`dense.py`: panels of the similarity matrix, `listed.py`: scope
`own`), so the backward pass only scales it. Deterministic: no atomics, sums in a fixed order.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch.autograd.function import once_differentiable

from fused_contrastive.dense import dense_pass
from fused_contrastive.listed import listed_pass
from fused_contrastive.passes import Needs, PassResult
from fused_contrastive.problem import InfoNCEOutput, Problem


def chunked(problem: Problem) -> InfoNCEOutput:
    """The same numbers as `reference`, without a B x N matrix."""
    inputs = (problem.query_BD, problem.document_ND, problem.temperature_B)
    needs = Needs(*(torch.is_grad_enabled() and tensor.requires_grad for tensor in inputs))
    one_pass: Callable[[Problem, Needs], PassResult] = listed_pass if problem.scope == "own" else dense_pass
    with torch.no_grad(), torch.autocast(problem.query_BD.device.type, enabled=False):
        result = one_pass(problem, needs)
        loss = (problem.share_B * result.stats.loss_B).sum()
    gradients = (result.query_BD, result.document_ND, result.temperature_B)
    return InfoNCEOutput(_KnownGradient.apply(loss, *gradients, *inputs), result.stats)


class _KnownGradient(torch.autograd.Function):
    """A value whose gradient by each input is already known (None: not needed)."""

    @staticmethod
    def forward(ctx, value, query_gradient, document_gradient, temperature_gradient, *inputs):  # type: ignore[no-untyped-def]
        ctx.save_for_backward(query_gradient, document_gradient, temperature_gradient)
        return value.clone()

    @staticmethod
    @once_differentiable
    def backward(ctx, upstream):  # type: ignore[no-untyped-def]
        if upstream == 1:  # the usual case: hand the gradients over without copying them
            return (None, None, None, None, *ctx.saved_tensors)
        scaled = (None if gradient is None else gradient * upstream.to(gradient) for gradient in ctx.saved_tensors)
        return (None, None, None, None, *scaled)
