"""The exact score of a query and a corpus row, the same bits wherever it is computed, and limits derived from it."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from harness import comm
from harness.search.request import CorpusShard, Pairs

# Size of the products held at a time: per thread of a CPU, so that they stay in its cache; and on a GPU.
PAIR_BYTES = {"cpu": 4 * 2**20, "cuda": 64 * 2**20}


def pair_scores(left_ED: Tensor, right_ED: Tensor) -> Tensor:
    """Σ_d left_d · right_d of each pair, float32 [E], from float32 rows.

    Products are exact in float64. They are added in a fixed order, by elementwise operations only, and rounded once, so
    that the bits depend on nothing but the two rows. Those of a matrix product depend on the matrices' shapes, too.
    """
    product_ED = left_ED.double() * right_ED.double()
    while (width := product_ED.shape[1]) > 1:
        half = (width + 1) // 2
        product_ED[:, : width - half] += product_ED[:, half:]
        product_ED = product_ED[:, :half]
    return product_ED[:, 0].float()


def listed_scores(query_RD: Tensor, corpus_CD: Tensor, query_E: Tensor, column_E: Tensor) -> Tensor:
    """`pair_scores` of listed rows of two tables, float32 [E], on the corpus' device."""
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
    """Per query the lowest score of the rows listed for it, float32 [Q], +inf where none is; equal on every rank.

    pairs: (query, row of the whole corpus), the same on every rank: the known positives.
    """
    query_E, row_E = pairs
    here_E = (row_E >= shard.first) & (row_E < shard.first + len(shard))
    device = shard.row_CD.device
    query, column = (torch.from_numpy(part[here_E]).to(device) for part in (query_E, row_E - shard.first))
    score = listed_scores(query_QD, shard.row_CD, query, column)
    lowest_Q = torch.full((len(query_QD),), torch.inf, device=device).scatter_reduce(0, query, score, "amin")
    return -comm.all_reduce_max(-lowest_Q).cpu().numpy()


def false_negative_limit(
    positive_Q: np.ndarray, *, relative: float | None = None, margin: float | None = None
) -> np.ndarray:
    """min(p - (1 - relative) · |p|, p - margin), float32 [Q]: candidates that reach it may be unlabelled positives.

    p: score of the query's lowest positive; where it is infinite, and with neither setting, there is no limit (+inf).
    relative = 0.95 is TopK-PercPos of NV-Retriever (arXiv 2407.15831), s < 0.95 · p, so written that the limit lies
    below p for negative p as well.
    """
    positive = np.asarray(positive_Q, dtype=np.float64)
    limit_Q = np.full(positive.shape, np.inf)
    is_finite = np.isfinite(positive)
    if relative is not None:
        limit_Q[is_finite] = positive[is_finite] - (1 - relative) * np.abs(positive[is_finite])
    if margin is not None:
        limit_Q[is_finite] = np.minimum(limit_Q[is_finite], positive[is_finite] - margin)
    return limit_Q.astype(np.float32)
