"""Exact scores of query and corpus rows, with equal bits on every device, and limits derived from the scores."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from harness import comm
from harness.search.request import CorpusShard, Pairs
from harness.search.unit_rows import unit_rows

# Size of the products in memory at a time: on a CPU per thread, so that they stay in its cache; on a GPU in total.
PAIR_BYTES = {"cpu": 4 * 2**20, "cuda": 64 * 2**20}


def pair_scores(left_ED: Tensor, right_ED: Tensor) -> Tensor:
    """Σ_d left_d · right_d of each pair, float32 [E], from float32 rows.

    The products are exact in float64. Elementwise operations add them in a fixed order, and the sum is rounded once, so
    that the bits depend on the two rows only. The bits of a matrix product depend on the matrices' shapes as well.
    """
    product_ED = left_ED.double() * right_ED.double()
    while (width := product_ED.shape[1]) > 1:
        half = (width + 1) // 2
        product_ED[:, : width - half] += product_ED[:, half:]
        product_ED = product_ED[:, :half]
    return product_ED[:, 0].float()


def pair_cosines(left_ED: np.ndarray, right_ED: np.ndarray) -> np.ndarray:
    """Cosine of each pair of rows, float32 [E]; 0 if one of the rows is zero.

    Computed in float64 and rounded once: equal pairs get equal cosines wherever they stand, and every row has the
    cosine 1 with itself, whatever its length. A float32 product differs in its last bits from pair to pair, and noise
    would decide ties.
    """
    cosine_E = np.empty(len(left_ED), dtype=np.float32)
    step = _cosines_at_once(left_ED)
    for first in range(0, len(left_ED), step):
        left, right = (np.asarray(rows[first : first + step], dtype=np.float64) for rows in (left_ED, right_ED))
        length = np.sqrt(np.einsum("ed,ed->e", left, left) * np.einsum("ed,ed->e", right, right))
        cosine_E[first : first + step] = np.einsum("ed,ed->e", left, right) / np.where(length == 0, 1.0, length)
    return cosine_E


def listed_cosines(left_ND: np.ndarray, right_ND: np.ndarray, left_E: np.ndarray, right_E: np.ndarray) -> np.ndarray:
    """`pair_cosines` of the unit rows of left_ND[left_E] and right_ND[right_E], float32 [E], without a copy of them."""
    cosine_E = np.empty(len(left_E), dtype=np.float32)
    step = _cosines_at_once(left_ND)
    for first in range(0, len(left_E), step):
        part = slice(first, first + step)
        cosine_E[part] = pair_cosines(unit_rows(left_ND[left_E[part]]), unit_rows(right_ND[right_E[part]]))
    return cosine_E


def _cosines_at_once(row_ND: np.ndarray) -> int:
    return max(1, PAIR_BYTES["cpu"] // (8 * row_ND.shape[1]))


def listed_scores(query_RD: Tensor, corpus_CD: Tensor, query_E: Tensor, column_E: Tensor) -> Tensor:
    """`pair_scores` of the pairs (query_RD[query_E], corpus_CD[column_E]), float32 [E], on the device of the corpus."""
    device = corpus_CD.device
    score_E = torch.empty(len(query_E), device=device)
    pair_bytes = PAIR_BYTES[device.type] * (torch.get_num_threads() if device.type == "cpu" else 1)
    step = max(1, pair_bytes // (8 * corpus_CD.shape[1]))
    for first in range(0, len(query_E), step):
        part = slice(first, first + step)
        query_ED = query_RD.index_select(0, query_E[part].to(query_RD.device)).to(device)
        score_E[part] = pair_scores(query_ED, corpus_CD.index_select(0, column_E[part]))
    return score_E


def lowest_scores(query_QD: Tensor, shard: CorpusShard, pairs: Pairs) -> np.ndarray:
    """Per query, the lowest score of its known positives, float32 [Q]; +inf without positives. Equal on every rank.

    pairs: (query, row of the whole corpus) of the known positives; equal on every rank.
    """
    query_E, row_E = pairs
    in_shard_E = (row_E >= shard.first) & (row_E < shard.first + len(shard))
    device = shard.row_CD.device
    query, column = (torch.from_numpy(array[in_shard_E]).to(device) for array in (query_E, row_E - shard.first))
    score = listed_scores(query_QD, shard.row_CD, query, column)
    lowest_Q = torch.full((len(query_QD),), torch.inf, device=device).scatter_reduce(0, query, score, "amin")
    return -comm.all_reduce_max(-lowest_Q).cpu().numpy()


def false_negative_limit(
    positive_Q: np.ndarray, *, relative: float | None = None, margin: float | None = None
) -> np.ndarray:
    """min(p - (1 - relative) · |p|, p - margin), float32 [Q]. Candidates at or above it may be unlabelled positives.

    p is the score of the query's lowest positive. If p is infinite, or neither setting is given, there is no limit
    (+inf). relative = 0.95 is TopK-PercPos of NV-Retriever (arXiv 2407.15831), s < 0.95 · p. The formula here uses |p|,
    so that the limit is below p for negative p as well.
    """
    positive = np.asarray(positive_Q, dtype=np.float64)
    limit_Q = np.full(positive.shape, np.inf)
    is_finite = np.isfinite(positive)
    if relative is not None:
        limit_Q[is_finite] = positive[is_finite] - (1 - relative) * np.abs(positive[is_finite])
    if margin is not None:
        limit_Q[is_finite] = np.minimum(limit_Q[is_finite], positive[is_finite] - margin)
    return limit_Q.astype(np.float32)
