"""Bad arguments of `info_nce` end in one line that names the argument, what came and what is allowed."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from fused_contrastive import info_nce

from tests.kernels.cases import FEATURES, make_case

BAD: list[tuple[str, dict[str, Any], str]] = [
    ("query_BD", {"query_BD": torch.zeros(7)}, r"float32 \[7\]"),
    ("query_BD", {"query_BD": torch.zeros(7, 12, dtype=torch.int64)}, "int64"),
    ("query_BD", {"query_BD": torch.zeros(7, 0), "document_ND": torch.zeros(17, 0)}, "at least one dimension"),
    ("document_ND", {"document_ND": torch.zeros(17, 11, dtype=torch.float64)}, r"\[17, 11\]"),
    ("document_ND", {"document_ND": torch.zeros(17, 12)}, "float32"),
    ("document_ND", {"document_ND": torch.zeros(17, 12, dtype=torch.float64, device="meta")}, "meta"),
    ("positive_B", {"positive_B": torch.zeros(6, dtype=torch.int64)}, r"\[6\]"),
    ("positive_B", {"positive_B": torch.zeros(7)}, "float32"),
    ("positive_B", {"positive_B": torch.full((7,), 17)}, "0 to 16"),
    ("positive_B", {"positive_B": torch.full((7,), -1)}, "0 to 16"),
    ("positive_B", {"document_ND": torch.zeros(0, 12, dtype=torch.float64)}, "0 to -1"),
    ("negative_BM", {"negative_BM": torch.zeros(7, dtype=torch.int64)}, r"\[7, any\]"),
    ("negative_BM", {"negative_BM": torch.full((7, 2), 17)}, r"-1 to 16 \(-1 pads\)"),
    ("excluded_BX", {"excluded_BX": torch.full((7, 2), -2)}, "-1 to 16"),
    ("excluded_BX", {"excluded_BX": torch.zeros(6, 2, dtype=torch.int64)}, r"\[6, 2\]"),
    ("temperature", {"temperature": 0.0}, "above 0"),
    ("temperature", {"temperature": float("nan")}, "above 0"),
    ("temperature", {"temperature": torch.zeros(7)}, "above 0"),
    ("temperature", {"temperature": torch.ones(6)}, r"\[6\]"),
    ("matryoshka_dims", {"matryoshka_dims": [4, 4, 12]}, "ascending"),
    ("matryoshka_dims", {"matryoshka_dims": [4, 13]}, r"1 to 12 \(D\)"),
    ("matryoshka_dims", {"matryoshka_dims": []}, "ascending"),
    ("matryoshka_weights", {"matryoshka_weights": [1.0]}, "3 numbers"),
    ("weight_B", {"weight_B": torch.ones(6)}, r"\[6\]"),
    ("weight_B", {"weight_B": -torch.ones(7)}, "at least 0"),
    ("weight_B", {"weight_B": torch.ones(7, requires_grad=True)}, "detach"),
    ("denominator", {"denominator": 0.0}, "above 0"),
    ("denominator", {"denominator": torch.ones(2)}, "one number"),
    ("scope", {"scope": "all"}, "'own', 'task' or 'step'"),
    ("query_group_B", {"query_group_B": None}, "scope='task'"),
    ("document_group_N", {"document_group_N": None}, "scope='task'"),
    ("document_key_N", {"document_key_N": torch.zeros(7, dtype=torch.int64)}, r"\[17\]"),
    ("query_key_B", {"query_key_B": torch.zeros(7)}, "float32"),
    ("false_negative_margin", {"false_negative_margin": float("nan")}, "finite"),
    ("implementation", {"implementation": "fast"}, "chunked"),
    ("workspace_bytes", {"workspace_bytes": 0}, "positive"),
]


@pytest.mark.parametrize(("argument", "changes", "expected"), BAD)
def test_a_bad_argument_is_named(argument: str, changes: dict[str, Any], expected: str) -> None:
    case = make_case(set(FEATURES) - {"short_levels"}, "task")
    with pytest.raises(ValueError, match=f"^info_nce {argument}: got .*, expected ") as caught:
        info_nce(**(case.arguments | changes))
    assert caught.match(expected)
    assert "\n" not in str(caught.value)


def test_the_case_that_the_bad_arguments_change_is_good() -> None:
    case = make_case(set(FEATURES) - {"short_levels"}, "task")
    assert info_nce(**case.arguments).loss.isfinite()
