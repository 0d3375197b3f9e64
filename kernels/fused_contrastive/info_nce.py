"""The public function: checks its arguments and hands them to one implementation."""

from __future__ import annotations

import os
from collections.abc import Sequence
from importlib.util import find_spec
from typing import Literal

import torch
from torch import Tensor

from fused_contrastive.checks import require
from fused_contrastive.one_pass.fused import fused
from fused_contrastive.problem import InfoNCEOutput, Peers, Problem, Scope
from fused_contrastive.reference import reference
from fused_contrastive.validation import SameTower, checked_problem

Implementation = Literal["auto", "reference", "chunked", "triton"]


def info_nce(
    query_BD: Tensor,
    document_ND: Tensor,
    positive_B: Tensor | None = None,
    *,
    positive_BP: Tensor | None = None,
    temperature: float | Tensor,
    matryoshka_dims: Sequence[int] | None = None,
    matryoshka_weights: Sequence[float] | None = None,
    weight_B: Tensor | None = None,
    negative_BM: Tensor | None = None,
    excluded_BX: Tensor | None = None,
    query_row_B: Tensor | None = None,
    scope: Scope = "step",
    query_group_B: Tensor | None = None,
    document_group_N: Tensor | None = None,
    query_key_B: Tensor | None = None,
    document_key_N: Tensor | None = None,
    false_negative_margin: float | None = None,
    false_negative_margin_dims: Literal["level", "full"] = "level",
    hardness: float | None = None,
    symmetric: bool = False,
    same_tower: SameTower | None = None,
    denominator: float | Tensor | None = None,
    implementation: Implementation = "auto",
    workspace_bytes: int | None = None,
    peers: Peers | None = None,
    first_document: int | None = None,
    num_documents: int | None = None,
) -> InfoNCEOutput:
    """loss = sum_i weight_i * sum_k level_weight_k * mean_p(log(e^z_ip + sum_j e^z_ij) - z_ip) / denominator.

    z_ij = cosine(query_i[:dim_k], document_j[:dim_k]) / temperature_i, p runs over the positives of query i and j over
    its kept negatives; no positive is a negative of its query. Rows need no normalisation; a zero prefix has cosine 0
    with everything and gets no gradient.

    Args:
        query_BD: float16, bfloat16, float32 or float64 rows; gradients come back in this type, sums are float32
            (float64 for float64). NaN or infinite rows give a NaN loss.
        document_ND: same type and device.
        positive_B: row of each query's positive in `document_ND`.
        positive_BP: several positives per query, -1 padded, repeats counting once, at least one in every row. With
            `positive_B` as well, that must be one of them.
        temperature: a number, a scalar tensor or one per query; a tensor may require a gradient.
        matryoshka_dims: ascending prefix lengths of at most D; None means [D]. Columns above the last are unused.
        matryoshka_weights: one per level, default 1.
        weight_B: one per query, at least 0, default 1; takes no gradient.
        negative_BM: the query's own negatives, -1 padded. A document counts once however often it is named.
        excluded_BX: documents that are never negatives of the query, -1 padded.
        query_row_B: where the query itself stands among the documents (-1: nowhere): never its own negative, nor that
            of queries with an equal `query_key_B`.
        scope: which documents may be negatives. `step`: all; `task`: those whose group equals the query's, and
            `negative_BM`; `own`: `negative_BM` only, at a cost of B * M * D.
        query_group_B: the query's group, needed by scope `task`.
        document_group_N: the document's group, needed by scope `task`.
        query_key_B: positives of queries with an equal key are never negatives of each other's. Time grows with the
            most keys whose queries share one positive. With `peers`, this caller's queries only.
        document_key_N: a document whose key equals that of one of the positives is never a negative.
        false_negative_margin: drop negatives with cosine > the lowest positive's + margin (no gradient; equal up to
            rounding is kept).
        false_negative_margin_dims: `level` judges at each level by its own cosines; `full` at the last level for all,
            which may cost a second pass over D.
        hardness: a kept negative of `negative_BM` stands in its query's denominator as e^(z_ij + hardness * cosine_ij),
            in any scope; the cosine is each level's own and takes no gradient there (EmbeddingGemma, arXiv 2509.20354,
            with 5). Other candidates, the columns of `symmetric` and the document tower are not weighted.
        symmetric: the query's loss is the mean of that above and of mean_p(log(e^z_ip + sum_o e^z_op) - z_ip), o over
            the queries of which document p is a kept negative (in scope `own`: that list it).
        same_tower: also contrast texts of one kind (not with scope `own`). `query`: the queries join the documents, in
            the query's group, each with a key of its own. `document`: sum_j e^(cosine(document_p, document_j) /
            temperature_i) joins the denominator of positive p in the first loss, j over the documents kept as negatives
            of query i; the margin judges that cosine. `both`: the four sums of GTE (arXiv 2308.03281), positive to
            queries among them, which Qwen3-Embedding (arXiv 2506.05176) leaves out. Of these the statistics count
            those of `query` only.
        denominator: default the sum of the weights; callers with a part of the queries pass the whole's. A sum of
            0 (no queries, or weights all 0) gives loss 0 and zero gradients.
        implementation: `reference` builds B x N matrices; `chunked` (any device) and `triton` (CUDA of compute
            capability 8.0 or above, not float64) do not. `auto` is `triton` where that runs, else `chunked`.
        workspace_bytes: memory beside results linear in B + N; default 32 MiB, 256 MiB on CUDA.
        peers: other processes that call at the same time, each with its own queries; the columns of `symmetric` run
            over the queries of all. The loss and the gradients are this caller's part; pass the whole's `denominator`.
        first_document: with `peers`, a ring: `document_ND` holds only the rows from here on of a table of
            `num_documents`, and every peer other rows of it. Indices, groups and keys speak of the whole table.
        num_documents: length of the whole table; with `first_document` only.

    Raises:
        ValueError: an argument is out of its range; the message names it, what came and what is allowed.
    """
    problem = checked_problem(
        query_BD,
        document_ND,
        positive_B,
        positive_BP=positive_BP,
        temperature=temperature,
        matryoshka_dims=matryoshka_dims,
        matryoshka_weights=matryoshka_weights,
        weight_B=weight_B,
        negative_BM=negative_BM,
        excluded_BX=excluded_BX,
        query_row_B=query_row_B,
        scope=scope,
        query_group_B=query_group_B,
        document_group_N=document_group_N,
        query_key_B=query_key_B,
        document_key_N=document_key_N,
        margin=false_negative_margin,
        margin_dims=false_negative_margin_dims,
        hardness=hardness,
        symmetric=symmetric,
        same_tower=same_tower,
        denominator=denominator,
        workspace_bytes=workspace_bytes,
        peers=peers,
        first_document=first_document,
        num_documents=num_documents,
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
    known = "'auto', 'reference', 'chunked' or 'triton'"
    require(implementation == "reference", "implementation", repr(implementation), known)
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
