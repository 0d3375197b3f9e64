"""Before a run, the Triton kernels (here interpreted) are compared with the reference; a wrong one is found."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from fused_contrastive import InfoNCEOutput, Matryoshka, info_nce

from harness.losses.config import LossConfig
from harness.losses.interface import TaskLossSettings
from harness.losses.self_check import problem_of_triton

CPU = torch.device("cpu")
TASKS = [
    TaskLossSettings("faq", margin=0.1, hardness=5.0, symmetric=True),
    TaskLossSettings("towers", temperature=0.2, document_tower=True),
    TaskLossSettings("distilled", losses=("kl",)),
]
LEVELS = Matryoshka((8, 16), (1.0, 0.5))


def problem(compute: Any, dtypes: tuple[torch.dtype, ...] = (torch.float32,)) -> str | None:
    return problem_of_triton(TASKS, LossConfig(), LEVELS, 16, dtypes, CPU, compute)


def chunked_for_triton(*rows: Any, implementation: str, **options: Any) -> InfoNCEOutput:
    """Stands for a right kernel: another implementation than the reference."""
    return info_nce(*rows, **options, implementation="chunked" if implementation == "triton" else implementation)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_a_right_kernel_passes_in_every_precision(dtype: torch.dtype) -> None:
    assert problem(chunked_for_triton, (dtype,)) is None


@pytest.mark.parametrize(
    ("key", "wrong"),
    [("temperature", 0.06), ("positive_BP", None), ("hardness", None), ("margin", None), ("matryoshka", None)],
)
def test_a_kernel_that_ignores_or_changes_an_option_is_found(key: str, wrong: Any) -> None:
    def broken(*rows: Any, implementation: str, **options: Any) -> InfoNCEOutput:
        if implementation == "triton":
            if key in ("hardness", "margin"):
                options["negatives"] = replace(options["negatives"], **{key: wrong})
            elif key == "positive_BP":
                options[key] = options[key][:, :1]
            else:
                options[key] = wrong
        return chunked_for_triton(*rows, implementation=implementation, **options)

    found = problem(broken)
    assert found is not None
    assert found.startswith("task faq, float32: differs from the reference by ")


def test_a_wrong_gradient_alone_is_found() -> None:
    def broken(query_BD: Any, *rows: Any, implementation: str, **options: Any) -> InfoNCEOutput:
        if implementation == "triton":
            query_BD = query_BD.detach() + 0 * query_BD  # right value, no gradient
        return chunked_for_triton(query_BD, *rows, implementation=implementation, **options)

    assert "differs from the reference by" in str(problem(broken))


def test_an_error_of_the_compiler_is_the_reason_in_one_line() -> None:
    def broken(*rows: Any, implementation: str, **options: Any) -> InfoNCEOutput:
        if implementation == "triton":
            raise RuntimeError("no code for this device\nand a page of LLVM")
        return chunked_for_triton(*rows, implementation=implementation, **options)

    assert problem(broken) == "task faq, float32: RuntimeError: no code for this device"


def test_the_kernels_of_this_package_pass() -> None:
    """Interpreted without a GPU. On one, they are compiled: then this is the check that a run makes."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    assert problem_of_triton(TASKS, LossConfig(), LEVELS, 16, (torch.float32,), device) is None
