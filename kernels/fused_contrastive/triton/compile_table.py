"""`python -m fused_contrastive.triton.compile_table`: compile every kernel variant that can be launched; needs no GPU.

Prints registers, stack, spill stores and shared memory of each variant. Exits with code 1 if any variant uses a stack,
spills registers, or needs more shared memory than a program may have.
"""

from __future__ import annotations

import argparse
import functools
import multiprocessing
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import torch
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from fused_contrastive.triton.launch import Architecture
from fused_contrastive.triton.variants import Variant, all_variants

DTYPES = (torch.bfloat16, torch.float16, torch.float32)
_ARCHITECTURES: dict[int, Architecture] = {80: "sm_80", 90: "sm_90"}
SHARED_LIMIT = {"sm_80": 101376, "sm_90": 232448}  # bytes per program; sm_80's blocks also run on 8.6, 8.9 and 12
_TILE_OPTIONS = {"level_end": "levels", "drop_mask": "mask"}
_OPTION_NAMES = {  # by kernel: the option that an argument switches on unless it is None
    "score_kernel": _TILE_OPTIONS | {"panel": "keep", "column_max": "by column"},
    "slope_kernel": _TILE_OPTIONS | {"column_weight": "column weights"},
    "combine_kernel": {"row_max": "kept"},
    "margin_kernel": {},
    "mark_kernel": {},
}


class Compiled(NamedTuple):
    """A compiled variant and the chip resources that it needs."""

    architecture: Architecture
    dtype: torch.dtype
    variant: Variant
    registers: int
    stack: int
    spill_stores: int
    shared: int

    @property
    def fits(self) -> bool:
        """Whether the variant uses no stack, does not spill, and has enough shared memory."""
        return self.stack == self.spill_stores == 0 and self.shared <= SHARED_LIMIT[self.architecture]


def compile_all(architectures: Iterable[Architecture], num_processes: int = 2) -> Iterator[Compiled]:
    """Compiles every variant for these architectures; yields the results in a fixed order."""
    jobs = [
        (architecture, dtype, index)
        for architecture in architectures
        for dtype in DTYPES
        for index in range(len(_variants(architecture, dtype)))
    ]
    with (
        tempfile.TemporaryDirectory() as cache,
        ProcessPoolExecutor(num_processes, multiprocessing.get_context("spawn"), _cache_in, (cache,)) as pool,
    ):
        for job, usage in zip(jobs, pool.map(_compile, *zip(*jobs, strict=True)), strict=True):
            architecture, dtype, index = job
            yield Compiled(architecture, dtype, _variants(architecture, dtype)[index], *usage)


def _cache_in(folder: str) -> None:
    os.environ["TRITON_CACHE_DIR"] = folder


@functools.cache
def _variants(architecture: Architecture, dtype: torch.dtype) -> list[Variant]:
    return all_variants(architecture, dtype)


def _compile(architecture: Architecture, dtype: torch.dtype, index: int) -> tuple[int, int, int, int]:
    """Registers, bytes of stack, spill stores, bytes of shared memory."""
    variant = _variants(architecture, dtype)[index]
    source = ASTSource(variant.kernel, dict(variant.types), dict(variant.constants), _alignment(variant))
    target = GPUTarget("cuda", int(architecture.removeprefix("sm_")), 32)
    compiled = triton.compile(source, target, variant.block.options)
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(compiled.asm["cubin"])
        file.flush()
        resources = _run_nvidia_tool("cuobjdump", "-res-usage", file.name)
        registers, stack = (int(re.findall(rf"{name}:(\d+)", resources)[0]) for name in ("REG", "STACK"))
        code = _run_nvidia_tool("nvdisasm", file.name) if stack else ""  # without a stack there are no spills
    return registers, stack, len(re.findall(r"\bSTL\b", code)), compiled.metadata.shared


def _alignment(variant: Variant) -> dict[tuple[int], list[list[Any]]]:
    """Hints that the compiler also gets at a launch: pointers and strides are multiples of 16."""
    return {
        (index,): [["tt.divisibility", 16]]
        for index, (parameter, (_, type_name)) in enumerate(zip(variant.kernel.params, variant.types, strict=True))
        if type_name.startswith("*") or (type_name == "i32" and not parameter.do_not_specialize)
    }


def _run_nvidia_tool(tool: str, *arguments: str) -> str:
    path = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / tool
    return subprocess.run([path, *arguments], capture_output=True, text=True, check=True).stdout


def table_row(compiled: Compiled) -> list[str]:
    """The cells of a variant's line; `HEADER` has their names."""
    variant, block = compiled.variant, compiled.variant.block
    name, constants = variant.kernel.__name__, dict(variant.constants)
    tile = [str(size) for size in (block.rows, block.columns, constants.get("BLOCK_D")) if size is not None]
    return [
        compiled.architecture,
        str(compiled.dtype).removeprefix("torch."),
        name.removesuffix("_kernel"),
        ", ".join(word for argument, word in _OPTION_NAMES[name].items() if constants.get(argument, 0) is not None),
        " x ".join(tile),
        *(str(number) for number in (block.parts, block.warps, block.stages)),
        *(str(number) for number in (compiled.registers, compiled.stack, compiled.spill_stores, compiled.shared)),
        "fits" if compiled.fits else "DOES NOT FIT",
    ]


HEADER = ["chip", "rows", "kernel", "with", "tile", "parts", "warps", "stages"]
HEADER += ["registers", "stack", "spills", "shared", "verdict"]


def main() -> int:
    """Compile all variants and print one line per variant."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--arch", type=int, nargs="+", choices=list(_ARCHITECTURES), default=list(_ARCHITECTURES))
    parser.add_argument("--markdown", action="store_true")
    arguments = parser.parse_args()
    print(f"Triton {triton.__version__}")
    form = "| {} |" if arguments.markdown else "{}"
    between = " | " if arguments.markdown else "\t"
    print(form.format(between.join(HEADER)))
    if arguments.markdown:
        print(form.format(between.join("---" for _ in HEADER)))
    all_fit = True
    for compiled in compile_all([_ARCHITECTURES[number] for number in arguments.arch]):
        print(form.format(between.join(table_row(compiled))), flush=True)
        all_fit &= compiled.fits
    return 0 if all_fit else 1


if __name__ == "__main__":
    sys.exit(main())
