"""Chooses how many tokens, padding included, a micro-batch may have when the recipe says `auto`."""

from __future__ import annotations

import torch

from harness import comm
from harness.encoder.encoder import Encoder
from harness.engine.precision import ACTIVATIONS

CPU_TOKENS = 1024  # on 2 cores a step takes 17 % less time than with 4,096, for less padding (LOG.md, 2026-11-20)
_SHARE_OF_FREE_MEMORY = 0.4
_MOST_TOKENS = 1 << 18


def micro_batch_tokens(setting: int | str, encoder: Encoder, precision: str) -> int:
    """Tokens of a micro-batch, equal on all ranks: the recipe's number, or for `auto` on a GPU what fits into 40 % of
    the free memory.

    One token's activations take layers · 34 · hidden bytes in half precision (Korthikanti et al. 2022, arXiv
    2205.05198, eq. 1, without its attention matrix, which fused attention does not store).
    """
    if setting != "auto":
        return int(setting)
    if comm.device().type == "cpu":
        return CPU_TOKENS
    settings = encoder.backbone.config
    bytes_per_token = settings.num_hidden_layers * 34 * settings.hidden_size * ACTIVATIONS[precision]
    free_bytes, _ = torch.cuda.mem_get_info(comm.device())
    fitting_tokens = int(free_bytes * _SHARE_OF_FREE_MEMORY) // int(bytes_per_token)
    negated_tokens = torch.tensor([-max(512, min(_MOST_TOKENS, fitting_tokens))], device=comm.device())
    return -int(comm.all_reduce_max(negated_tokens))  # the minimum over ranks
