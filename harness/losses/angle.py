"""The loss `angle`: pairs with a higher score shall have a smaller angle in complex space (AnglE).

Li and Li 2023, arXiv 2309.12871: unlike the cosine, this angle keeps a gradient where two texts are nearly equal or
opposite. The paper adds two objectives to it: CoSENT on cosines (`loss: [cosent, angle]`) and in-batch negatives of the
similar pairs (give these pairs as a retrieval task as well).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from fused_contrastive import Implementation, Matryoshka, cosent_of_similarities
from fused_contrastive.checks import check_pair_rows, checked_matryoshka
from fused_contrastive.cosine import prefix_inverse_norms
from torch import Tensor

from harness.losses.interface import LossTerm, StepShare, TaskLossSettings
from harness.losses.pairs import pair_term
from harness.types import PairPart


def angle_term(task: TaskLossSettings, part: PairPart, table_TD: Tensor, share: StepShare) -> LossTerm:
    """The loss `angle` over all pairs of the task, as a term of the step's loss."""
    return pair_term(angle, task, part, table_TD, share)


def angle(
    embedding1_ED: Tensor,
    embedding2_ED: Tensor,
    score_E: Tensor,
    *,
    temperature: float,
    matryoshka: Matryoshka | None = None,
    implementation: Implementation = "auto",
) -> Tensor:
    """Scalar: sum over levels of level weight * CoSENT's formula with `angle_similarities` in place of cosines.

    sentence-transformers' AnglELoss, whose `scale` is 1 / temperature. O(E log E) for E pairs.

    Raises:
        ValueError: an argument is out of its range; the message names the argument, its value and the range.
    """
    check_pair_rows(embedding1_ED, embedding2_ED, "angle")
    dims, level_weights = checked_matryoshka(matryoshka, embedding1_ED.shape[1], "angle")
    dtype = torch.promote_types(embedding1_ED.dtype, torch.float32)
    rows = embedding1_ED.to(dtype), embedding2_ED.to(dtype)
    similarity_KE = torch.stack([angle_similarities(rows[0][:, :dim], rows[1][:, :dim]) for dim in dims])
    return cosent_of_similarities(
        similarity_KE,
        score_E,
        temperature=temperature,
        level_weights=level_weights,
        implementation=implementation,
    )


def angle_similarities(embedding1_ED: Tensor, embedding2_ED: Tensor) -> Tensor:
    """|Re q + Im q| summed over the complex quotients q = z / w of unit length, [E], from 0 to sqrt(2).

    The first half of a row is the real part of z (or w), the second half, padded to the same length, the imaginary
    part. With z = a + ib and w = c + id this is |sum(ac + bd) + sum(bc - ad)| / (|z| |w|). A zero row has similarity 0
    with everything and gets no gradient.
    """
    half = (embedding1_ED.shape[1] + 1) // 2
    (real1_EH, imaginary1_EH), (real2_EH, imaginary2_EH) = (
        F.pad(rows_ED, (0, 2 * half - rows_ED.shape[1])).split(half, dim=1)
        for rows_ED in (embedding1_ED, embedding2_ED)
    )
    real_E = (real1_EH * real2_EH + imaginary1_EH * imaginary2_EH).sum(1)
    imaginary_E = (imaginary1_EH * real2_EH - real1_EH * imaginary2_EH).sum(1)
    width = (embedding1_ED.shape[1],)
    inverse_norm_E = prefix_inverse_norms(embedding1_ED, width)[0] * prefix_inverse_norms(embedding2_ED, width)[0]
    return (real_E + imaginary_E).abs() * inverse_norm_E
