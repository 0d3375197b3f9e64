"""The public function `info_nce`: checks its arguments and calls one implementation."""

from __future__ import annotations

import os
from importlib.util import find_spec

import torch
from torch import Tensor

from fused_contrastive.checks import require
from fused_contrastive.one_pass.fused import fused
from fused_contrastive.options import DocumentShard, Implementation, Matryoshka, Negatives, Peers, Towers
from fused_contrastive.problem import InfoNCEOutput, Problem
from fused_contrastive.reference import reference
from fused_contrastive.validation import checked_problem


def info_nce(
    query_BD: Tensor,
    document_ND: Tensor,
    positive_B: Tensor | None = None,
    *,
    positive_BP: Tensor | None = None,
    temperature: float | Tensor,
    weight_B: Tensor | None = None,
    denominator: float | Tensor | None = None,
    matryoshka: Matryoshka | None = None,
    negatives: Negatives = Negatives(),
    towers: Towers = Towers(),
    peers: Peers | None = None,
    shard: DocumentShard | None = None,
    implementation: Implementation = "auto",
    workspace_bytes: int | None = None,
) -> InfoNCEOutput:
    """loss = sum_i weight_i * sum_k level_weight_k * mean_p(log(e^z_ip + sum_j e^z_ij) - z_ip) / denominator.

    z_ij = cosine(query_i[:dim_k], document_j[:dim_k]) / temperature_i; p runs over the positives of query i and j over
    its negatives. A positive is never a negative of its query. Rows need no normalisation. A row whose first dim_k
    columns are 0 has cosine 0 with every other row and gets no gradient.

    Args:
        query_BD: float16, bfloat16, float32 or float64 rows. Gradients have this type; sums are float32 (float64 for
            float64 rows). NaN or infinite rows give a NaN loss.
        document_ND: same type and device as `query_BD`.
        positive_B: row of each query's positive in `document_ND`.
        positive_BP: several positives per query, -1 padded, at least one in every row; repeats count once. If
            `positive_B` is given as well, it must be one of them.
        temperature: a number, a scalar tensor, or one value per query; a tensor may require a gradient.
        weight_B: one weight per query, at least 0, default 1; gets no gradient.
        denominator: default the sum of the weights. If several callers divide the queries among themselves, each gives
            the sum over all queries. A sum of 0 (no queries, or all weights 0) gives loss 0 and zero gradients.
        matryoshka: prefix lengths and their weights; None: one level with all D columns.
        negatives: which documents are negatives of a query.
        towers: whether positives are also compared with queries, queries with queries, or documents with documents.
        peers: other processes that call this function at the same time, each with its own queries. The columns of
            `towers.symmetric` run over the queries of all processes. Loss and gradients are this caller's part, so
            `denominator` must be given as well.
        shard: with `peers`, `document_ND` is a part of the document table; the parts are passed round a ring of peers.
        implementation: `reference` builds B x N matrices. `chunked` (any device) and `triton` (CUDA with compute
            capability 8.0 or above, not float64) do not. `auto` is `triton` where it can run, otherwise `chunked`.
        workspace_bytes: memory in addition to results of size O(B + N); default 32 MiB, 256 MiB on CUDA.

    Raises:
        ValueError: an argument is invalid; the message has the argument, its value and the allowed values.
    """
    problem = checked_problem(
        query_BD,
        document_ND,
        positive_B,
        positive_BP=positive_BP,
        temperature=temperature,
        weight_B=weight_B,
        denominator=denominator,
        matryoshka=matryoshka,
        negatives=negatives,
        towers=towers,
        peers=peers,
        shard=shard,
        workspace_bytes=workspace_bytes,
    )
    return _run(problem, implementation)


def _run(problem: Problem, implementation: Implementation) -> InfoNCEOutput:
    """Choose the implementation and call it."""
    if implementation == "auto":
        suits = problem.query_BD.is_cuda and _obstacle_to_triton(problem) is None
        return fused(problem, tiles="triton" if suits else "torch")
    if implementation == "chunked":
        return fused(problem, tiles="torch")
    if implementation == "triton":
        obstacle = _obstacle_to_triton(problem)
        require(obstacle is None, "implementation", f"'triton' {obstacle}", "'chunked' or 'auto' there")
        return fused(problem, tiles="triton")
    names = "'auto', 'reference', 'chunked' or 'triton'"
    require(implementation == "reference", "implementation", repr(implementation), names)
    alone = problem.peers is None or problem.peers.count == 1
    require(alone, "implementation", "'reference' with several peers", "'auto', 'chunked' or 'triton' with them")
    return reference(problem)


def _obstacle_to_triton(problem: Problem) -> str | None:
    """Why the Triton kernels cannot run, as words to put after "triton" in a message; None if they can run."""
    rows = problem.query_BD
    if rows.dtype == torch.float64:
        return "with float64 rows"
    if find_spec("triton") is None:
        return "without the package triton"
    if rows.is_cuda:
        major, minor = torch.cuda.get_device_capability(rows.device)
        return None if major >= 8 else f"on compute capability {major}.{minor}, below 8.0"
    interpreted = rows.device.type == "cpu" and os.environ.get("TRITON_INTERPRET") == "1"
    return None if interpreted else f"on {rows.device} without its interpreter (TRITON_INTERPRET=1, CPU only)"
