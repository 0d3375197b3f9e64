"""The public function: checks its arguments and hands them to one implementation."""

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

    z_ij = cosine(query_i[:dim_k], document_j[:dim_k]) / temperature_i, p runs over the positives of query i and j over
    its negatives; a positive is never a negative of its query. Rows need no normalisation. A row whose first dim_k
    columns are 0 has cosine 0 with everything and gets no gradient.

    Args:
        query_BD: float16, bfloat16, float32 or float64 rows; gradients come back in this type, sums are float32
            (float64 for float64). NaN or infinite rows give a NaN loss.
        document_ND: same type and device.
        positive_B: row of each query's positive in `document_ND`.
        positive_BP: several positives per query, -1 padded, repeats counting once, at least one in every row. With
            `positive_B` as well, that must be one of them.
        temperature: a number, a scalar tensor or one per query; a tensor may require a gradient.
        weight_B: one per query, at least 0, default 1; takes no gradient.
        denominator: default the sum of the weights. A caller with a part of the queries gives the sum over all of them.
            A sum of 0 (no queries, or weights all 0) gives loss 0 and zero gradients.
        matryoshka: prefix lengths and their weights; None: one level, all D columns.
        negatives: which documents are negatives of a query.
        towers: whether positives are contrasted with queries, queries with queries, documents with documents.
        peers: other processes that call at the same time, each with its own queries; the columns of `towers.symmetric`
            run over the queries of all. The loss and the gradients are this caller's part: give `denominator`, too.
        shard: with `peers`, `document_ND` is a part of the table; the parts travel round a ring of the peers.
        implementation: `reference` builds B x N matrices; `chunked` (any device) and `triton` (CUDA of compute
            capability 8.0 or above, not float64) do not. `auto` is `triton` where that runs, else `chunked`.
        workspace_bytes: memory beside results linear in B + N; default 32 MiB, 256 MiB on CUDA.

    Raises:
        ValueError: an argument is out of its range; the message names it, what came and what is allowed.
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
    """The one place where an implementation is chosen."""
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
    """Why Triton's kernels cannot run here, in words that follow its name; None if they can."""
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
