"""Several processes, each with a part of the queries, get the results of one process with all queries."""

from __future__ import annotations

from functools import cache
from itertools import product
from typing import Any

import pytest
import torch
from fused_contrastive import DocumentShard, InfoNCEOutput, RaggedLists, info_nce
from torch import Tensor

from harness import comm
from tests.kernels.cases import grouped
from tests.ranks import run_ranks

pytestmark = pytest.mark.distributed

NUM_QUERIES, NUM_DOCUMENTS, WIDTH = 11, 23, 12
BY_QUERY = ("query_BD", "positive_BP", "temperature", "weight_B", "own_BM", "query_group_B")
CASES = [
    case
    for case in product(("all", "group", "own"), (False, True), (False, True), (None, 3.0))
    if case[:3:2] != ("own", True)
]


def _arguments(scope: str, symmetric: bool, document_tower: bool, hardness: float | None) -> dict[str, Any]:
    generator = torch.Generator().manual_seed(3)

    def random_integers(low: int, high: int, *shape: int) -> Tensor:
        return torch.randint(low, high, shape, generator=generator)

    def random_floats(*shape: int) -> Tensor:
        return torch.rand(shape, generator=generator, dtype=torch.float64)

    positive_BP = random_integers(-1, NUM_DOCUMENTS, NUM_QUERIES, 3)
    positive_BP[:, 1] = random_integers(0, NUM_DOCUMENTS, NUM_QUERIES)
    return {
        "query_BD": random_floats(NUM_QUERIES, WIDTH) - 0.4,
        "document_ND": random_floats(NUM_DOCUMENTS, WIDTH) - 0.4,
        "positive_BP": positive_BP,
        "temperature": random_floats(NUM_QUERIES) + 0.05,
        "weight_B": random_floats(NUM_QUERIES),
        "own_BM": random_integers(-1, NUM_DOCUMENTS, NUM_QUERIES, 4),
        "excluded_BX": RaggedLists.of_padded(random_integers(-1, NUM_DOCUMENTS, NUM_QUERIES, 2)),
        "query_group_B": random_integers(0, 2, NUM_QUERIES),
        "document_group_N": random_integers(0, 2, NUM_DOCUMENTS),
        "document_key_N": random_integers(0, 15, NUM_DOCUMENTS),
        "margin": 0.05,
        "matryoshka_dims": (3, 7, 12),
        "scope": scope,
        "symmetric": symmetric,
        "document_tower": document_tower,
        "hardness": hardness,
    }


def _part(length: int) -> slice:
    """This rank's part of `length` rows. The parts are unequal; of three ranks the second has no row."""
    edges = {1: (0, length), 2: (0, 4, length), 3: (0, 5, 5, length)}[comm.world_size()]
    return slice(edges[comm.rank()], edges[comm.rank() + 1])


def _of_queries(arguments: dict[str, Any], queries: slice) -> dict[str, Any]:
    """The arguments for some of the queries."""
    start_R1 = arguments["excluded_BX"].start_B1[queries.start : queries.stop + 1]
    excluded = RaggedLists(start_R1 - start_R1[0], arguments["excluded_BX"].index_E[start_R1[0] : start_R1[-1]])
    return arguments | {name: arguments[name][queries] for name in BY_QUERY} | {"excluded_BX": excluded}


def _loss_and_gradients(arguments: dict[str, Any], **options: Any) -> tuple[InfoNCEOutput, tuple[Tensor, ...]]:
    leaves = [arguments[name].detach().requires_grad_() for name in ("query_BD", "document_ND", "temperature")]
    arguments = arguments | dict(zip(("query_BD", "document_ND", "temperature"), leaves, strict=True))
    output = info_nce(**grouped(arguments), **options, implementation="chunked")
    return output, torch.autograd.grad(output.loss, leaves)


Case = tuple[str, bool, bool, float | None]  # scope, symmetric, with document tower, hardness


@cache
def _truth(case: Case, workspace: int | None) -> tuple[InfoNCEOutput, tuple[Tensor, ...]]:
    """One call with all queries and documents."""
    return _loss_and_gradients(_arguments(*case), workspace_bytes=workspace)


def _error(case: Case, ring: bool, workspace: int | None) -> float:
    """Largest difference between this rank's results and the same rows of one call with all queries and documents."""
    all_arguments = _arguments(*case)
    truth, (query_BD, document_ND, temperature_B) = _truth(case, workspace)
    queries, documents = _part(NUM_QUERIES), _part(NUM_DOCUMENTS)
    my_arguments = _of_queries(all_arguments, queries)
    options = {"peers": comm.RingPeers(), "denominator": all_arguments["weight_B"].sum(), "workspace_bytes": workspace}
    if ring:
        my_arguments["document_ND"] = all_arguments["document_ND"][documents]
        options["shard"] = DocumentShard(documents.start, NUM_DOCUMENTS)
    output, (my_query, my_document, my_temperature) = _loss_and_gradients(my_arguments, **options)
    if not ring:
        my_document, documents = comm.all_reduce_sum(my_document), slice(None)
    differences = [
        comm.all_reduce_sum(output.loss.detach().clone()) - truth.loss.detach(),
        my_query - query_BD[queries],
        my_temperature - temperature_B[queries],
        my_document - document_ND[documents],
        (output.stats.negative_similarity_BM - truth.stats.negative_similarity_BM[queries]).nan_to_num(),
        (output.stats.negative_kept_BM ^ truth.stats.negative_kept_BM[queries]).double(),
        output.stats.lse_KB - truth.stats.lse_KB[:, queries],
        (output.stats.masked_B - truth.stats.masked_B[queries]).double(),
    ]
    return max(difference.abs().max().item() for difference in differences if difference.numel())


def _errors() -> dict[str, float]:
    settings = product(CASES, (False, True), (None, 500))
    return {str(setting): _error(*setting) for setting in settings}


def _gap() -> str:
    arguments = _arguments("all", False, False, None)
    my_arguments = _of_queries(arguments, _part(NUM_QUERIES))
    my_arguments["document_ND"] = arguments["document_ND"][_part(NUM_DOCUMENTS)]
    first = _part(NUM_DOCUMENTS).start - comm.rank()  # on the second rank one too low
    try:
        info_nce(**grouped(my_arguments), peers=comm.RingPeers(), shard=DocumentShard(first, NUM_DOCUMENTS))
    except ValueError as error:
        return str(error)
    return ""


def test_parts_of_a_ring_that_overlap_are_refused_on_every_rank() -> None:
    for message in run_ranks(2, _gap):
        assert message.startswith("info_nce shard.first: got documents 0 to 4, 3 to 22 from the peers")


@pytest.mark.parametrize("world", [1, 2, 3])
def test_parts_of_the_queries_and_a_ring_of_documents_equal_one_process_with_everything(world: int) -> None:
    """Compares loss, gradients and statistics: every scope, symmetric or not, with and without tower and hardness."""
    for errors in run_ranks(world, _errors):
        assert len(errors) == 4 * len(CASES)
        assert max(errors.values()) < 1e-12, max(errors, key=errors.__getitem__)
