"""The soft mask of Conan-embedding-v2 (arXiv 2509.12892): from causal to bidirectional attention over a run.

At step t the token at position i of a text of l tokens (both from 1) reads the token at position j with the weight

    M_ij = 1 if j <= i, else min(α(t) · l / i, 1)      α(t) = min(t / τ, 1)

and its attention is softmax over j of (score_ij + log M_ij): M_ij = 0 hides a token, 1 shows it whole. The
first tokens, which read the fewest, are opened first. At t >= τ every weight is 1: that is what is exported. One
summary of the paper writes i / l in place of l / i; that form never gets to 1 for the first tokens, so it cannot end in
bidirectional attention. The linear α is the best of the paper's three.
"""

from __future__ import annotations

import torch
from torch import Tensor


class SoftMask:
    """The attention of one step of training; `weight` is α. Outside of training attention is bidirectional.

    It depends on the step's number alone, so nothing of it is stored: a continued run says its step again.
    """

    def __init__(self, steps: int) -> None:
        """steps: τ, the step from which on attention is bidirectional."""
        self.steps = steps
        self.weight = 1.0
        self.is_used = False

    def at_step(self, step: int) -> None:
        """Use the mask of this step from now on."""
        self.weight, self.is_used = min(step / self.steps, 1.0), True

    def of(self, attention_mask_BL: Tensor, dtype: torch.dtype) -> Tensor:
        """The mask to give to a backbone with weights of `dtype`: [B, 1, L, L], or the given one if it is not used.

        At weight 1, too, it is a mask of numbers, so that a run computes with the same kernels at all of its steps.
        """
        return additive_mask(attention_mask_BL, self.weight, dtype) if self.is_used else attention_mask_BL


def additive_mask(attention_mask_BL: Tensor, weight: float, dtype: torch.dtype) -> Tensor:
    """log M, to be added to the scores of attention: [B, 1, queries, keys]. Padding is hidden from all other tokens."""
    position_BL = attention_mask_BL.cumsum(1).clamp(min=1)
    length_B1 = attention_mask_BL.sum(1, keepdim=True)
    lowest = torch.finfo(dtype).min
    weight_BL = (weight * length_B1.to(torch.promote_types(dtype, torch.float32)) / position_BL).clamp(max=1.0)
    log_BL = weight_BL.log().clamp(min=lowest)  # the logarithm of 0 would give NaN where a whole row is hidden
    place_L = torch.arange(attention_mask_BL.shape[1], device=attention_mask_BL.device)
    is_later_LL = place_L[None, :] > place_L[:, None]
    is_hidden_BLL = (attention_mask_BL == 0)[:, None, :] & (place_L[None, :] != place_L[:, None])
    mask_BLL = torch.where(is_later_LL, log_BL[:, :, None], torch.zeros_like(log_BL[:1, :1, None]))
    return mask_BLL.masked_fill(is_hidden_BLL, lowest).to(dtype)[:, None]
