"""The ways to turn a text's token states into one vector. To add one, change only this file.

Each works with padding on the left and on the right. Recipes are checked against `PoolingMode` before torch is loaded,
so this module imports torch for type checkers only.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from torch import Tensor

PoolingMode = Literal["cls", "max", "mean", "mean_sqrt_len_tokens", "weightedmean", "last"]


def cls_pool(state_BLD: Tensor, mask_BL: Tensor, _: Tensor) -> Tensor:
    """The state of each text's first pooled token: [B, D]."""
    first_B = mask_BL.int().argmax(dim=1)
    return _state_at(state_BLD, first_B)


def max_pool(state_BLD: Tensor, mask_BL: Tensor, _: Tensor) -> Tensor:
    """The largest value of each dimension over the pooled tokens: [B, D]."""
    return state_BLD.masked_fill(mask_BL.unsqueeze(-1) == 0, float("-inf")).amax(dim=1)


def mean_pool(state_BLD: Tensor, mask_BL: Tensor, _: Tensor) -> Tensor:
    """The mean state of each text's pooled tokens, summed in float32: float32 [B, D]."""
    weight_BL1 = mask_BL.unsqueeze(-1).float()
    return (state_BLD.float() * weight_BL1).sum(1) / weight_BL1.sum(1).clamp(min=1.0)


def mean_sqrt_len_tokens_pool(state_BLD: Tensor, mask_BL: Tensor, _: Tensor) -> Tensor:
    """The sum of the states of n pooled tokens, divided by √n: float32 [B, D]."""
    weight_BL1 = mask_BL.unsqueeze(-1).float()
    return (state_BLD.float() * weight_BL1).sum(1) / weight_BL1.sum(1).clamp(min=1.0).sqrt()


def weightedmean_pool(state_BLD: Tensor, mask_BL: Tensor, attention_mask_BL: Tensor) -> Tensor:
    """The mean of the pooled states, each weighted by its position in the text, from 1: float32 [B, D].

    Positions count the tokens of a prompt, even where these are not pooled (SGPT, Muennighoff 2022, arXiv 2202.08904).
    """
    weight_BL1 = (attention_mask_BL.cumsum(1) * mask_BL).unsqueeze(-1).float()
    return (state_BLD.float() * weight_BL1).sum(1) / weight_BL1.sum(1).clamp(min=1.0)


def last_pool(state_BLD: Tensor, mask_BL: Tensor, _: Tensor) -> Tensor:
    """The state of each text's last pooled token: [B, D]."""
    last_B = mask_BL.shape[1] - 1 - mask_BL.flip(1).int().argmax(dim=1)
    return _state_at(state_BLD, last_B)


def _state_at(state_BLD: Tensor, token_B: Tensor) -> Tensor:
    """The state of one token of each text: [B, D]."""
    # Not take_along_dim, which fixes batch and length in torch.export.
    index_B1D = token_B[:, None, None].expand(-1, 1, state_BLD.shape[2])
    return state_BLD.gather(1, index_B1D).squeeze(1)


@dataclass(frozen=True, slots=True)
class Pooling:
    """A pooling function, and its names in the folders of sentence-transformers.

    pool: (token states [B, L, D], mask of the tokens to pool [B, L], attention mask [B, L]) → one vector per text
    [B, D]. The two masks differ where the tokens of a prompt are not pooled.
    """

    pool: Callable[[Tensor, Tensor, Tensor], Tensor]
    sentence_transformers_name: str  # value of `pooling_mode` in 1_Pooling/config.json
    legacy_flag: str  # the key that older folders set to true instead


# The order is that in which sentence-transformers puts the vectors of the older form, several flags, side by side.
POOLINGS: dict[PoolingMode, Pooling] = {
    "cls": Pooling(cls_pool, "cls", "pooling_mode_cls_token"),
    "max": Pooling(max_pool, "max", "pooling_mode_max_tokens"),
    "mean": Pooling(mean_pool, "mean", "pooling_mode_mean_tokens"),
    "mean_sqrt_len_tokens": Pooling(
        mean_sqrt_len_tokens_pool, "mean_sqrt_len_tokens", "pooling_mode_mean_sqrt_len_tokens"
    ),
    "weightedmean": Pooling(weightedmean_pool, "weightedmean", "pooling_mode_weightedmean_tokens"),
    "last": Pooling(last_pool, "lasttoken", "pooling_mode_lasttoken"),
}
