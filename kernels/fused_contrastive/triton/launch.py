"""Launches kernels: tile sizes by architecture and type, tensor descriptors, buffers."""

from __future__ import annotations

import math
from contextlib import nullcontext
from typing import Any, Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from triton.tools.tensor_descriptor import TensorDescriptor

Architecture = Literal["sm_80", "sm_90", "interpreter"]


class Block(NamedTuple):
    """The tile of one program, rows x columns. Its epilogue processes 1 / `parts` of the columns at a time."""

    rows: int
    columns: int
    parts: int
    warps: int
    stages: int

    @property
    def width(self) -> int:
        """Number of columns that the epilogue processes at a time."""
        return self.columns // self.parts

    @property
    def options(self) -> dict[str, Any]:
        """Compiler options."""
        return {"num_warps": self.warps, "num_stages": self.stages, "enable_fp_fusion": True}

    def num_programs(self, num_rows: int, num_columns: int) -> int:
        """Number of programs that cover `num_rows` rows and `num_columns` columns."""
        return -(-num_rows // self.rows) * -(-num_columns // self.columns)


class Blocks(NamedTuple):
    """Tile sizes by kernel. `score_levels` and `slope_levels` are used with several Matryoshka levels."""

    dims: int  # number of columns of D that one step of the loop over D multiplies
    score: Block
    score_levels: Block
    slope: Block
    slope_levels: Block
    margin: Block
    mark: Block
    combine_rows: int


_SMALL = Block(16, 32, 2, 4, 1)
_MARK = Block(32, 128, 1, 4, 1)
BLOCKS: dict[tuple[Architecture, int], Blocks] = {  # by architecture and bytes per number of the embeddings
    ("sm_90", 2): Blocks(
        dims=64,
        score=Block(128, 256, 2, 8, 3),
        score_levels=Block(128, 256, 8, 8, 3),
        slope=Block(128, 256, 4, 8, 3),
        slope_levels=Block(128, 128, 4, 4, 3),
        margin=Block(128, 128, 1, 8, 3),
        mark=_MARK,
        combine_rows=32,
    ),
    ("sm_90", 4): Blocks(
        dims=32,
        score=Block(128, 128, 1, 8, 3),
        score_levels=Block(128, 128, 2, 8, 3),
        slope=Block(128, 128, 2, 8, 3),
        slope_levels=Block(128, 128, 2, 8, 3),
        margin=Block(128, 128, 1, 8, 3),
        mark=_MARK,
        combine_rows=32,
    ),
    ("sm_80", 2): Blocks(
        dims=32,
        score=Block(128, 128, 1, 8, 4),
        score_levels=Block(128, 128, 2, 8, 4),
        slope=Block(128, 128, 1, 8, 4),
        slope_levels=Block(128, 128, 4, 8, 4),
        margin=Block(128, 128, 1, 8, 4),
        mark=_MARK,
        combine_rows=32,
    ),
    ("sm_80", 4): Blocks(
        dims=32,
        score=Block(128, 64, 1, 8, 3),
        score_levels=Block(128, 64, 1, 8, 3),
        slope=Block(128, 64, 1, 8, 3),
        slope_levels=Block(128, 64, 1, 8, 3),
        margin=Block(128, 64, 1, 8, 3),
        mark=_MARK,
        combine_rows=32,
    ),
}
for _bytes in (2, 4):
    BLOCKS["interpreter", _bytes] = Blocks(16, _SMALL, _SMALL, _SMALL, _SMALL, _SMALL, _SMALL, 16)


class Launcher:
    """Launches kernels on one chip architecture, for rows of one type."""

    def __init__(self, architecture: Architecture, dtype: torch.dtype) -> None:
        self.architecture = architecture
        self.blocks = BLOCKS[architecture, dtype.itemsize]

    @classmethod
    def of(cls, rows: Tensor) -> Launcher:
        """The launcher for the device of the rows. sm_90 uses TMA; all other GPUs are treated as sm_80."""
        if rows.device.type == "cpu":
            return cls("interpreter", rows.dtype)
        major, _ = torch.cuda.get_device_capability(rows.device)
        return cls("sm_90" if major == 9 else "sm_80", rows.dtype)

    def table(self, rows: Tensor | None, block_rows: int, block_columns: int) -> tuple[Any, int | None]:
        """A matrix in the form that a kernel takes: (tensor descriptor, None), or (pointer, stride of the rows)."""
        if rows is None:
            return None, None
        if self.architecture == "sm_80":
            return rows, rows.stride(0)
        return TensorDescriptor.from_tensor(rows, [block_rows, block_columns]), None

    def launch(self, kernel: Any, num_programs: int, block: Block, arguments: dict[str, Any]) -> None:
        """Queue a kernel on the current stream of its tensors' device. arguments: all arguments, by name."""
        tensor = next(value for value in arguments.values() if isinstance(value, Tensor))
        with torch.cuda.device(tensor.device) if tensor.is_cuda else nullcontext():
            kernel[(num_programs,)](**arguments, **block.options)


def round_up(length: int, block: int) -> int:
    """The smallest multiple of `block` that is at least `length`."""
    return -(-length // block) * block


def pad_to_blocks(value: Tensor, block: int, fill: float = 0.0) -> Tensor:
    """A contiguous copy whose last dimension is padded to a multiple of `block`."""
    length = value.shape[-1]
    return F.pad(value, (0, round_up(length, block) - length), value=fill).contiguous()


class Buffers:
    """Tensors by name, allocated once and reused until a larger tensor is requested."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self.flat: dict[str, Tensor] = {}

    def get(self, name: str, dtype: torch.dtype, *shape: int) -> Tensor:
        """An uninitialised, contiguous tensor. It reuses the memory of the earlier tensor with this name."""
        size = math.prod(shape)
        if name not in self.flat or len(self.flat[name]) < size:
            self.flat.pop(name, None)
            self.flat[name] = torch.empty(size, dtype=dtype, device=self._device)
        return self.flat[name][:size].view(shape)
