"""Dropout on a CPU with masks that are cheap to draw. On a GPU, torch's own fused dropout stays.

torch draws a CPU's masks one by one with a serial Mersenne Twister, which takes up to 40 % of a training step, and
stores them in the dtype of the states. Here a mask is 16 random bits an element of a vectorised generator (SFC64),
compared with a threshold, and stored as one byte an element.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor
from torch.nn.functional import dropout, scaled_dot_product_attention
from torch.overrides import TorchFunctionMode

_LEVELS = 1 << 16  # rates are rounded to a multiple of 1 / 65,536, and what is kept is scaled by the rounded rate


class CheapDropout(TorchFunctionMode):
    """Inside this context, torch's dropout and attention with dropout draw their masks here, for tensors on a CPU.

    It is a context and no module, so a backbone's classes, its configuration and the names of its weights stay as they
    are. Every mask depends on torch's generator alone, of which one number is drawn per mask: `torch.manual_seed`
    before a forward repeats all of them, and so does what restores the generator, as gradient checkpointing does.
    """

    def __torch_function__(
        self, func: Callable[..., Any], types: Sequence[type], args: Sequence[Any] = (), kwargs: Any = None
    ) -> Any:
        """Replace the two functions; call every other as it is."""
        kwargs = kwargs or {}
        if func is dropout:
            return _dropout(*args, **kwargs)
        if func is scaled_dot_product_attention:
            return _attention(*args, **kwargs)
        return func(*args, **kwargs)


def _dropout(input: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
    if not training or not _is_ours(input, p):
        return dropout(input, p, training, inplace)
    dropped = _drop(input, p)
    return input.copy_(dropped) if inplace else dropped


def _attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Tensor:
    """softmax(query · keyᵀ · scale + mask), dropped, · value: the formula that torch takes on a CPU with dropout, too.

    In half precision the weights are computed in float32, as torch does. Shapes [..., heads, tokens, head size].
    """
    if not _is_ours(query, dropout_p):
        with torch.autocast("cpu", enabled=False):
            mask = None if attn_mask is None else _in_float32(attn_mask)
            states = _in_float32(query), _in_float32(key), _in_float32(value)
            attended = scaled_dot_product_attention(
                *states, mask, dropout_p, is_causal, scale=scale, enable_gqa=enable_gqa
            )
            return attended.to(query.dtype)
    if enable_gqa:
        key, value = (states.repeat_interleave(query.shape[-3] // states.shape[-3], -3) for states in (key, value))
    with torch.autocast("cpu", enabled=False):
        scale = query.shape[-1] ** -0.5 if scale is None else scale
        scores = (query.float() * scale) @ key.float().transpose(-2, -1)
        if is_causal:
            attn_mask = torch.ones(scores.shape[-2:], dtype=torch.bool, device=query.device).tril()
        if attn_mask is not None and attn_mask.dtype == torch.bool:
            scores = scores.masked_fill(~attn_mask, float("-inf"))
        elif attn_mask is not None:
            scores = scores + attn_mask
        # "safe": a row in which everything is masked gives 0, as torch's attention does, not NaN
        weights = _drop(torch.ops.aten._safe_softmax(scores, -1), dropout_p)
        return (weights @ value.float()).to(query.dtype)


def _in_float32(tensor: Tensor) -> Tensor:
    """A half-precision tensor of a CPU as float32; any other as it is.

    For the backward of attention in bf16 torch takes three times as long as for that in float32 (LOG.md, 2026-11-28).
    """
    is_half = tensor.device.type == "cpu" and tensor.dtype in (torch.bfloat16, torch.float16)
    return tensor.float() if is_half else tensor


def _is_ours(input: Tensor, rate: float) -> bool:
    return input.device.type == "cpu" and input.is_floating_point() and 0 < _threshold(rate) < _LEVELS


def _threshold(rate: float) -> int:
    return round(rate * _LEVELS)


def _drop(input: Tensor, rate: float) -> Tensor:
    threshold = _threshold(rate)
    draw = _mask_without_numbers if isinstance(input, FakeTensor) else draw_mask
    mask = draw(input.shape, threshold).view(torch.uint8)  # torch multiplies by these twice as fast as by bool
    return _Masked.apply(input, mask, _LEVELS / (_LEVELS - threshold))


def draw_mask(shape: Sequence[int], threshold: int) -> Tensor:
    """Which elements are kept, bool of this shape: each with probability 1 - threshold / 65,536, independently.

    Draws one number from torch's CPU generator, as the seed of all of them.
    """
    count = int(np.prod(shape, dtype=np.int64))
    seed = int(torch.randint(1 << 62, ()))
    words = np.random.SFC64(seed).random_raw(-(-count // 4))  # 64 bits each: four elements
    return torch.from_numpy(words.view(np.uint16)[:count] >= threshold).view(tuple(shape))


def _mask_without_numbers(shape: Sequence[int], threshold: int) -> Tensor:
    """In place of `draw_mask` for tensors that have shapes only: takes and keeps the same memory."""
    return torch.empty(tuple(shape), dtype=torch.int16) >= threshold


class _Masked(torch.autograd.Function):
    """input · mask · scale. Autograd's own product would store the mask in the dtype of the input."""

    @staticmethod
    def forward(context: Any, input: Tensor, mask: Tensor, scale: float) -> Tensor:
        context.save_for_backward(mask)
        context.scale = scale
        return torch.mul(input, mask).mul_(scale)

    @staticmethod
    def backward(context: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        (mask,) = context.saved_tensors
        return torch.mul(gradients[0], mask).mul_(context.scale), None, None


def cheap_dropout_again() -> tuple[AbstractContextManager[object], AbstractContextManager[object]]:
    """For torch's gradient checkpointing: the contexts of a layer's forward and of its repetition in the backward.

    The forward happens inside the encoder's own context, the repetition outside of it, and must draw the same masks.
    """
    return nullcontext(), CheapDropout()
