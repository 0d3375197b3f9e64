"""Dropout and attention on a CPU at less cost. On a GPU, torch's own fused kernels stay.

torch draws a CPU's masks one by one with a serial Mersenne Twister, which takes up to 40 % of a training step, and
stores them in the dtype of the states. Here a mask is 16 random bits an element of a vectorised generator (SFC64),
compared with a threshold, and stored as one byte an element. Attention with dropout, and that of short texts without,
is written out as plain matrix products.
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

# Tokens of a text up to which attention without dropout is written out: with 32 it takes 0.5 × the time of torch's
# fused kernel, with 64 and 96 0.7 ×, with 128 1.1 × (12 heads of 32, both passes, 2 cores; LOG.md, 2026-11-29).
_SHORT = 96
_LEVELS = 1 << 16  # rates are rounded to a multiple of 1 / 65,536, and what is kept is scaled by the rounded rate


class CheapDropout(TorchFunctionMode):
    """Inside this context, torch's dropout and attention with dropout draw their masks here, for tensors on a CPU.

    Attention of short texts without dropout is computed here, too.

    It is a context and no module, so a backbone's classes, its configuration and the names of its weights stay as they
    are. Every mask depends on torch's generator alone, of which one number is drawn per mask: `torch.manual_seed`
    before a forward repeats all of them, and so does what restores the generator, as gradient checkpointing does.
    """

    def __init__(self, own_masks: bool = True) -> None:
        """own_masks: False: only attention is computed here, and every mask is torch's own, as compiled code needs it.

        Compiled code would draw two masks of one shape once, and use it twice (findings/).
        """
        super().__init__()
        self._own_masks = own_masks

    def __torch_function__(
        self, func: Callable[..., Any], types: Sequence[type], args: Sequence[Any] = (), kwargs: Any = None
    ) -> Any:
        """Replace the two functions; call every other as it is."""
        kwargs = kwargs or {}
        if func is dropout and self._own_masks:
            return _dropout(*args, **kwargs)
        if func is scaled_dot_product_attention:
            return _attention(*args, **kwargs, own_masks=self._own_masks)
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
    *,
    own_masks: bool = True,
) -> Tensor:
    """softmax(query · keyᵀ · scale + mask), dropped, · value: the formula that torch takes on a CPU with dropout, too.

    In half precision the weights are computed in float32, as torch does. Shapes [..., heads, tokens, head size].
    """
    drops = own_masks and _is_ours(query, dropout_p)
    with torch.autocast("cpu", enabled=False):
        queries, keys, values = _in_float32(query), _in_float32(key), _in_float32(value)
        mask = None if attn_mask is None else _in_float32(attn_mask)
        if drops or (dropout_p == 0 and _is_faster_written_out(key, mask)):
            scale = query.shape[-1] ** -0.5 if scale is None else scale
            if enable_gqa:
                groups = query.shape[-3] // key.shape[-3]
                keys, values = keys.repeat_interleave(groups, -3), values.repeat_interleave(groups, -3)
            attended = _written_out(queries, keys, values, mask, dropout_p if drops else 0.0, is_causal, scale)
        else:
            attended = scaled_dot_product_attention(
                queries, keys, values, mask, dropout_p, is_causal, scale=scale, enable_gqa=enable_gqa
            )
    return attended.to(query.dtype)


def _is_faster_written_out(key: Tensor, mask: Tensor | None) -> bool:
    """Whether three plain operations take less time than torch's fused kernel, which pays for long texts only.

    A mask of numbers is a bias that may be learned (T5): what torch does with it is left as it is.
    """
    is_plain = mask is None or mask.dtype == torch.bool
    return key.device.type == "cpu" and is_plain and key.shape[-2] <= _SHORT


def _written_out(
    query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, rate: float, is_causal: bool, scale: float
) -> Tensor:
    """The formula of attention as plain operations; its weights [..., heads, tokens, tokens] stay for the backward."""
    scores = (query * scale) @ key.transpose(-2, -1)
    if is_causal:
        mask = torch.ones(scores.shape[-2:], dtype=torch.bool, device=query.device).tril()
    # "safe": a row in which everything is masked gives 0, as torch's attention does, not NaN. It takes twice the time.
    softmax = torch.softmax if mask is None or _leaves_something(mask) else torch.ops.aten._safe_softmax
    if mask is not None and mask.dtype == torch.bool:
        mask = torch.zeros((), device=query.device).masked_fill(~mask, float("-inf"))
    weights = softmax(scores if mask is None else scores + mask, -1)
    return (_drop(weights, rate) if rate else weights) @ value


def _leaves_something(mask: Tensor) -> bool:
    """Whether a mask is known to leave something of every row."""
    if mask.dtype != torch.bool or torch.compiler.is_compiling():
        return False
    return isinstance(mask, FakeTensor) or bool(mask.any(-1).all())


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
