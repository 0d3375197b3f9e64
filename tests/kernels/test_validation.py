"""Bad arguments of `info_nce` end in one line that names the argument, what came and what is allowed."""

from __future__ import annotations

import re
import sys
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from fused_contrastive import DocumentShard, RaggedLists, info_nce
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from tests.kernels.cases import FEATURES, Case, grouped, make_case

PEERS = SimpleNamespace(rank=0, count=2)
ONE_PEER = SimpleNamespace(rank=0, count=1)
UNKEPT = {"short_levels", "positives", "query_row", "query_tower", "document_tower"}

BAD: list[tuple[str, dict[str, Any], str]] = [
    ("query_BD", {"query_BD": torch.zeros(7)}, r"float32 \[7\]"),
    ("query_BD", {"query_BD": torch.zeros(7, 12, dtype=torch.int64)}, "int64"),
    ("query_BD", {"query_BD": torch.zeros(7, 0), "document_ND": torch.zeros(17, 0)}, "at least one dimension"),
    ("document_ND", {"document_ND": torch.zeros(17, 12, 1, dtype=torch.float64)}, r"\[17, 12, 1\]"),
    ("document_ND", {"document_ND": torch.zeros(17, 11, dtype=torch.float64)}, r"\[17, 11\]"),
    ("document_ND", {"document_ND": torch.zeros(17, 12)}, "float32"),
    ("document_ND", {"document_ND": torch.zeros(17, 12, dtype=torch.float64, device="meta")}, "meta"),
    ("positive_B", {"positive_B": None}, "positive_BP="),
    ("positive_B", {"positive_B": torch.zeros(7, 2, dtype=torch.int64)}, "positive_BP="),
    ("positive_B", {"positive_B": torch.zeros(6, dtype=torch.int64)}, r"\[6\]"),
    ("positive_B", {"positive_B": torch.zeros(7)}, "float32"),
    ("positive_B", {"positive_B": torch.zeros(7, dtype=torch.int64, device="meta")}, "meta"),
    ("positive_B", {"positive_B": torch.full((7,), 17)}, "0 to 16"),
    ("positive_B", {"positive_B": torch.full((7,), -1)}, "0 to 16"),
    ("document_ND", {"document_ND": torch.zeros(0, 12, dtype=torch.float64)}, "at least one row"),
    ("positive_BP", {"positive_BP": torch.zeros(7, dtype=torch.int64)}, r"\[7, any\]"),
    ("positive_BP", {"positive_BP": torch.full((7, 2), 17)}, r"-1 to 16 \(-1 pads\)"),
    ("positive_BP", {"positive_BP": torch.zeros(7, 0, dtype=torch.int64), "positive_B": None}, "no positive in row 0,"),
    (
        "positive_BP",
        {"positive_BP": torch.tensor([[0], [1], [2], [-1], [4], [-1], [6]]), "positive_B": None},
        "no positive in row 3,",
    ),
    (
        "positive_B",
        {
            "positive_B": torch.arange(7),
            "positive_BP": torch.tensor([[0, 9], [9, 1], [9, 9], [3, 9], [9, 9], [5, 9], [6, 9]]),
        },
        "than positive_BP in row 2,",
    ),
    ("negatives.own_BM", {"own_BM": torch.zeros(7, dtype=torch.int64)}, r"\[7, any\]"),
    ("negatives.own_BM", {"own_BM": torch.full((7, 2), 17)}, r"-1 to 16 \(-1 pads\)"),
    ("negatives.excluded_BX", {"excluded_BX": torch.zeros(7, 2, dtype=torch.int64)}, "RaggedLists.of_padded"),
    ("negatives.excluded_BX", {"excluded_BX": [[1], [2]]}, "RaggedLists, one list per query"),
    ("negatives.excluded_BX.start_B1", {"excluded_BX": RaggedLists(torch.arange(7), torch.zeros(6).long())}, r"\[8\]"),
    ("negatives.excluded_BX.start_B1", {"excluded_BX": RaggedLists(torch.zeros(8), torch.zeros(0).long())}, r"\[8\]"),
    (
        "negatives.excluded_BX.start_B1",
        {"excluded_BX": RaggedLists(torch.tensor([0, 2, 1, 3, 3, 3, 3, 3]), torch.zeros(3).long())},
        "from 0 to the 3 entries",
    ),
    (
        "negatives.excluded_BX.start_B1",
        {"excluded_BX": RaggedLists(torch.arange(8), torch.zeros(8).long())},
        "from 0 to the 8 entries",
    ),
    (
        "negatives.excluded_BX.index_E",
        {"excluded_BX": RaggedLists(torch.arange(8), torch.full((7,), 17))},
        "0 to 16",
    ),
    (
        "negatives.excluded_BX.index_E",
        {"excluded_BX": RaggedLists(torch.arange(8), torch.zeros(7, 1).long())},
        r"\[7, 1\]",
    ),
    ("negatives.query_row_B", {"query_row_B": torch.zeros(6, dtype=torch.int64)}, r"\[6\]"),
    ("negatives.query_row_B", {"query_row_B": torch.full((7,), 17)}, "-1 to 16"),
    ("temperature", {"temperature": 0.0}, "above 0"),
    ("temperature", {"temperature": float("nan")}, "above 0"),
    ("temperature", {"temperature": torch.zeros(7)}, "above 0"),
    ("temperature", {"temperature": torch.ones(6)}, r"\[6\]"),
    ("matryoshka.dims", {"matryoshka_dims": [4, 4, 12]}, "ascending"),
    ("matryoshka.dims", {"matryoshka_dims": [8, 4, 12]}, "ascending"),
    ("matryoshka.dims", {"matryoshka_dims": [0, 12]}, "ascending"),
    ("matryoshka.dims", {"matryoshka_dims": [4, 13]}, r"1 to 12 \(D\)"),
    ("matryoshka.dims", {"matryoshka_dims": []}, "ascending"),
    ("matryoshka.weights", {"matryoshka_weights": [1.0]}, "3 numbers"),
    ("matryoshka.weights", {"matryoshka_weights": [1.0, -1.0, 1.0]}, "at least 0"),
    ("weight_B", {"weight_B": torch.ones(6)}, r"\[6\]"),
    ("weight_B", {"weight_B": -torch.ones(7)}, "at least 0"),
    ("weight_B", {"weight_B": torch.full((7,), torch.nan)}, "at least 0"),
    ("weight_B", {"weight_B": torch.ones(7, requires_grad=True)}, "detach"),
    ("denominator", {"denominator": 0.0}, "above 0"),
    ("denominator", {"denominator": torch.zeros(())}, "above 0"),
    ("denominator", {"denominator": torch.ones(2)}, "one number"),
    ("denominator", {"denominator": torch.ones((), requires_grad=True)}, "detach"),
    ("negatives.scope", {"scope": "step"}, "'all', 'group' or 'own'"),
    ("negatives.query_group_B", {"query_group_B": None}, "scope='group'"),
    ("negatives.document_group_N", {"document_group_N": None}, "scope='group'"),
    ("negatives.document_key_N", {"document_key_N": torch.zeros(7, dtype=torch.int64)}, r"\[17\]"),
    ("negatives.query_key_B", {"query_key_B": torch.zeros(7)}, "float32"),
    ("negatives.margin", {"margin": float("nan")}, "finite"),
    ("negatives.hardness", {"hardness": -1.0}, "at least 0"),
    ("negatives.hardness", {"hardness": float("inf")}, "finite"),
    ("negatives.margin_dims", {"margin_dims": "first"}, "'level' or 'full'"),
    ("towers.document_tower", {"document_tower": True, "scope": "own"}, "scope='all' or 'group'"),
    ("towers.query_tower", {"query_tower": True, "scope": "own"}, "scope='all' or 'group'"),
    ("towers.query_tower", {"query_tower": True, "document_tower": True, "peers": PEERS}, "negatives.query_row_B"),
    ("negatives.query_row_B", {"query_tower": True, "query_row_B": torch.arange(7)}, "None"),
    ("implementation", {"implementation": "fast"}, "'chunked' or 'triton'"),
    ("implementation", {"implementation": "reference", "peers": PEERS}, "'chunked' or 'triton'"),
    ("implementation", {"implementation": "triton"}, "'chunked' or 'auto'"),
    ("workspace_bytes", {"workspace_bytes": 0}, "positive"),
    ("peers", {"shard": DocumentShard(0, 17)}, "the other callers"),
    ("shard.num_documents", {"peers": PEERS, "shard": DocumentShard(0, 16)}, "at least the 17 rows"),
    ("shard.num_documents", {"peers": ONE_PEER, "shard": DocumentShard(0, 18)}, "one peer"),
    ("shard.first", {"peers": PEERS, "shard": DocumentShard(4, 20)}, "0 to 3"),
    ("shard.first", {"peers": PEERS, "shard": DocumentShard(-1, 20)}, "0 to 3"),
    ("negatives.document_group_N", {"peers": PEERS, "shard": DocumentShard(3, 20)}, r"\[20\]"),
    (
        "negatives.document_key_N",
        {"peers": PEERS, "shard": DocumentShard(3, 20), "document_group_N": torch.zeros(20).long()},
        r"\[20\]",
    ),
]


@pytest.fixture
def interpreter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRITON_INTERPRET", "1")


def good_case() -> Case:
    return make_case(set(FEATURES) - UNKEPT, "group")


@pytest.mark.parametrize(("argument", "changes", "expected"), BAD)
def test_a_bad_argument_is_named(argument: str, changes: dict[str, Any], expected: str) -> None:
    with pytest.raises(ValueError, match=f"^info_nce {re.escape(argument)}: got .*, expected ") as caught:
        info_nce(**grouped(good_case().arguments | changes))
    assert caught.match(expected)
    assert "\n" not in str(caught.value)


def test_the_case_that_the_bad_arguments_change_is_good() -> None:
    assert info_nce(**grouped(good_case().arguments)).loss.isfinite()


def test_triton_without_a_gpu_says_how_it_would_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    with pytest.raises(ValueError, match=r"^info_nce implementation: got 'triton' on cpu .*TRITON_INTERPRET=1"):
        good_case().run("triton", torch.float32)


@pytest.mark.usefixtures("interpreter")
def test_triton_says_that_it_has_no_float64() -> None:
    with pytest.raises(ValueError, match=r"^info_nce implementation: got 'triton' with float64 rows"):
        good_case().run("triton")


@pytest.mark.usefixtures("interpreter")
def test_triton_that_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "triton", None)
    with pytest.raises(ValueError, match=r"^info_nce implementation: got 'triton' without the package triton"):
        good_case().run("triton", torch.float32)


def test_auto_is_chunked_on_the_cpu_with_or_without_the_interpreter(monkeypatch: pytest.MonkeyPatch) -> None:
    expected = good_case().run("chunked", torch.float32)[0].loss
    for interpreted in ("0", "1"):
        monkeypatch.setenv("TRITON_INTERPRET", interpreted)
        assert torch.equal(good_case().run("auto", torch.float32)[0].loss, expected)


class _Reads(TorchDispatchMode):
    """Counts the operations that read one value from the device, because the CPU waits for the GPU in each."""

    count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += func.overloadpacket in (torch.ops.aten._local_scalar_dense, torch.ops.aten.is_nonzero)
        return func(*args, **(kwargs or {}))


def test_all_values_are_checked_in_one_transfer(monkeypatch: pytest.MonkeyPatch) -> None:
    lists, read = [], Tensor.tolist
    monkeypatch.setattr(Tensor, "tolist", lambda tensor: lists.append(tensor) or read(tensor))
    monkeypatch.setattr(sys.modules["fused_contrastive.info_nce"], "_run", lambda problem, implementation: problem)
    arguments = make_case(set(FEATURES) - {"query_tower"}, "group").arguments
    arguments |= {"denominator": torch.tensor(5.5), "positive_B": arguments["positive_BP"][:, 2]}
    with _Reads() as reads:
        info_nce(**grouped(arguments))
        assert reads.count == 0
        bool(arguments["denominator"] > 0)
        assert reads.count == 1  # the counter sees such a read
    assert len(lists) == 1


def test_positives_are_kept_once_and_padding_moves_to_the_right(monkeypatch: pytest.MonkeyPatch) -> None:
    """The implementations rely on this: column 0 is never padding."""
    monkeypatch.setattr(sys.modules["fused_contrastive.info_nce"], "_run", lambda problem, implementation: problem)
    given = [[-1, 4, -1, 4, 2], [3, 3, 3, 3, 3], [-1, -1, -1, -1, 0], [5, 1, 4, 2, 3]]
    kept = [[4, 2, -1, -1, -1], [3, -1, -1, -1, -1], [0, -1, -1, -1, -1], [5, 1, 4, 2, 3]]
    problem = info_nce(torch.ones(4, 2), torch.ones(6, 2), positive_BP=torch.tensor(given), temperature=1.0)
    assert problem.positive_BP.tolist() == kept
