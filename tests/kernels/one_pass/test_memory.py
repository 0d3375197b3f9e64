"""`chunked` needs no memory that grows with B x N."""

from __future__ import annotations

from itertools import accumulate
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.profiler import ProfilerActivity, profile
from torch.utils._python_dispatch import TorchDispatchMode

from tests.kernels.cases import FEATURES, make_case

SCOPES = ("all", "group", "own")


class _LargestTensor(TorchDispatchMode):
    """Records the number of elements of the largest tensor that an operation returns."""

    def __init__(self) -> None:
        super().__init__()
        self.elements = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for value in result if isinstance(result, (tuple, list)) else (result,):
            if isinstance(value, Tensor):
                self.elements = max(self.elements, value.untyped_storage().nbytes() // value.element_size())
        return result


@pytest.mark.parametrize("scope", SCOPES)
def test_no_tensor_grows_with_queries_times_documents(scope: str) -> None:
    """Every storage, also of integers and masks, stays within the workspace or is linear in B + N."""
    num_queries, num_documents, width, workspace = 700, 900, 8, 1 << 18
    features = set(FEATURES)
    case = make_case(features, scope, num_queries, num_documents, width)
    largest = {}
    for implementation in ("reference", "chunked"):
        with _LargestTensor() as watch:
            case.run(implementation, torch.float32, workspace_bytes=workspace)
        largest[implementation] = watch.elements
    assert largest["reference"] >= num_queries * num_documents
    assert largest["chunked"] <= max(workspace // 4, (num_queries + num_documents) * (width + 3))
    assert workspace // 4 < num_queries * num_documents / 8


@pytest.mark.parametrize("workspace", [1 << 19, 1 << 21])
def test_the_peak_of_all_memory_is_the_workspace_and_a_linear_rest(workspace: int) -> None:
    """Measured with torch's allocator. The B x N matrix would be 16 MiB, and naive code holds three of them."""
    num_queries, num_documents, width = 2048, 2048, 16
    case = make_case({"own", "margin", "document_key"}, "all", num_queries, num_documents, width)
    for name in ("query_BD", "document_ND"):
        case.arguments[name] = case.arguments[name].float()
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiled:
        case.run("chunked", torch.float32, workspace_bytes=workspace)
    events = profiled.profiler.kineto_results.events()
    changes = sorted((event.start_ns(), event.nbytes()) for event in events if event.name() == "[memory]")
    peak = max(accumulate(change for _, change in changes))
    linear = 4 * (num_queries + num_documents) * (width + 1)
    assert workspace / 4 < peak <= workspace + 6 * linear
