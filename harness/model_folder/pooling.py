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

PoolingMode = Literal["cls", "mean", "last"]


def cls_pool(state_BLD: Tensor, mask_BL: Tensor) -> Tensor:
    """The state of each text's first real token: [B, D]."""
    first_B = mask_BL.int().argmax(dim=1)
    return _state_at(state_BLD, first_B)


def mean_pool(state_BLD: Tensor, mask_BL: Tensor) -> Tensor:
    """The mean state of each text's real tokens, summed in float32: float32 [B, D]."""
    weight_BL1 = mask_BL.unsqueeze(-1).float()
    return (state_BLD.float() * weight_BL1).sum(1) / weight_BL1.sum(1).clamp(min=1.0)


def last_pool(state_BLD: Tensor, mask_BL: Tensor) -> Tensor:
    """The state of each text's last real token: [B, D]."""
    last_B = mask_BL.shape[1] - 1 - mask_BL.flip(1).int().argmax(dim=1)
    return _state_at(state_BLD, last_B)


def _state_at(state_BLD: Tensor, token_B: Tensor) -> Tensor:
    """The state of one token of each text: [B, D]."""
    return state_BLD.take_along_dim(token_B[:, None, None], dim=1).squeeze(1)


@dataclass(frozen=True, slots=True)
class Pooling:
    """A pooling function, and its names in the folders of sentence-transformers.

    pool: (token states [B, L, D], attention mask [B, L]) → one vector per text [B, D].
    """

    pool: Callable[[Tensor, Tensor], Tensor]
    sentence_transformers_name: str  # value of `pooling_mode` in 1_Pooling/config.json
    legacy_flag: str  # the key that older folders set to true instead


POOLINGS: dict[PoolingMode, Pooling] = {
    "cls": Pooling(cls_pool, "cls", "pooling_mode_cls_token"),
    "mean": Pooling(mean_pool, "mean", "pooling_mode_mean_tokens"),
    "last": Pooling(last_pool, "lasttoken", "pooling_mode_lasttoken"),
}
