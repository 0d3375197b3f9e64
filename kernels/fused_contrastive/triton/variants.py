"""Lists every kernel variant that can be launched, by running `TritonTiles` with a launcher that only records."""

from __future__ import annotations

import inspect
from typing import Any, NamedTuple

import torch
from torch import Tensor
from triton.tools.tensor_descriptor import TensorDescriptor

from fused_contrastive.cosine import prefix_inverse_norms
from fused_contrastive.masks import MaskRules
from fused_contrastive.one_pass.tiles import QueryRows, Shard, SlopeWeights
from fused_contrastive.options import Matryoshka, Negatives, Towers
from fused_contrastive.problem import Problem
from fused_contrastive.ragged import RaggedLists
from fused_contrastive.triton.launch import Architecture, Block, Launcher
from fused_contrastive.triton.tiles import TritonTiles
from fused_contrastive.validation import checked_problem

_TYPES = {torch.bfloat16: "bf16", torch.float16: "fp16", torch.float32: "fp32", torch.int32: "i32", torch.int8: "i8"}
_NUM_ROWS = 4


class Variant(NamedTuple):
    """A kernel specialised for its arguments. Equal variants have the same binary."""

    kernel: Any
    block: Block
    types: tuple[tuple[str, str], ...]  # (argument, type); the type is `constexpr` for compile-time constants
    constants: tuple[tuple[str, Any], ...]  # (argument, value) of compile-time constants; None removes code


class VariantRecorder(Launcher):
    """A launcher that records the variants instead of launching them."""

    def __init__(self, architecture: Architecture, dtype: torch.dtype) -> None:
        super().__init__(architecture, dtype)
        self.variants: set[Variant] = set()

    def launch(self, kernel: Any, num_programs: int, block: Block, arguments: dict[str, Any]) -> None:
        """Add the variant to `variants`."""
        self.variants.add(variant_of(kernel, block, arguments))


def variant_of(kernel: Any, block: Block, arguments: dict[str, Any]) -> Variant:
    """The variant that Triton would compile for these arguments."""
    order = list(inspect.signature(kernel.fn).parameters)
    constants = {name: arguments[name] for name in order if name.isupper() or arguments[name] is None}
    types = {name: "constexpr" if name in constants else _type(arguments[name]) for name in order}
    return Variant(kernel, block, tuple(types.items()), tuple(constants.items()))


def _type(argument: Any) -> str:
    if isinstance(argument, Tensor):
        assert argument.data_ptr() % 16 == 0
        return f"*{_TYPES[argument.dtype]}"
    if isinstance(argument, TensorDescriptor):
        return f"tensordesc<{_TYPES[argument.base.dtype]}{argument.block_shape}>".replace(" ", "")
    assert isinstance(argument, int)
    return "i32"


def all_variants(architecture: Architecture, dtype: torch.dtype) -> list[Variant]:
    """All variants that can be launched on an architecture for rows of a type, in a fixed order."""
    recorder = VariantRecorder(architecture, dtype)
    for dims in ((64,), (64, 128)):
        for excluded_BX in (None, RaggedLists.of_padded(torch.zeros(_NUM_ROWS, 1, dtype=torch.int64))):
            _launch_every_way(recorder, _problem(dtype, dims, Negatives(excluded_BX=excluded_BX)))
    _launch_every_way(recorder, _problem(dtype, (64, 128), Negatives(margin=0.0, margin_dims="full")))
    same_key_N = torch.zeros(_NUM_ROWS, dtype=torch.int64)
    _launch_every_way(recorder, _problem(dtype, (64,), Negatives(document_key_N=same_key_N)))
    return sorted(recorder.variants, key=lambda variant: (variant.kernel.__name__, str(variant[1:])))


def _problem(dtype: torch.dtype, dims: tuple[int, ...], negatives: Negatives) -> Problem:
    rows = torch.ones(_NUM_ROWS, 128, dtype=dtype)
    return checked_problem(
        rows,
        rows,
        torch.arange(_NUM_ROWS),
        temperature=1.0,
        matryoshka=Matryoshka(dims),
        negatives=negatives,
        towers=Towers(symmetric=True),
    )


def _launch_every_way(launcher: Launcher, problem: Problem) -> None:
    """Score one tile and compute its slopes, with every combination of options."""
    rules = MaskRules.of(problem, torch.arange(_NUM_ROWS))
    tiles = TritonTiles(problem, rules, by_column=True, needs_gradient=True, launcher=launcher)
    inverse_norm_KS = prefix_inverse_norms(problem.query_BD, problem.dims, torch.float32)
    max_cosine_KS = None if problem.margin is None else torch.ones_like(inverse_norm_KS)
    query_rows = QueryRows(problem.query_BD, inverse_norm_KS, torch.ones(_NUM_ROWS), max_cosine_KS)
    shard = Shard(0, problem.document_ND, inverse_norm_KS, None)
    everything, zero_KS = slice(0, _NUM_ROWS), torch.zeros_like(inverse_norm_KS)
    by_row, by_both = SlopeWeights(zero_KS, zero_KS), SlopeWeights(zero_KS, zero_KS, zero_KS, zero_KS)
    for keep, by_column in ((False, False), (False, True), (True, False)):
        tiles.score(query_rows, shard, everything, everything, keep=keep, by_column=by_column)
    tiles.slopes(query_rows, shard, everything, everything, by_row, kept=True)
    tiles.slopes(query_rows, shard, everything, everything, by_row, kept=False)
    tiles.slopes(query_rows, shard, everything, everything, by_both, kept=False)
