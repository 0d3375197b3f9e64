"""The competitors of the kernel benchmark: one function each, the same loss from the same unnormalised rows.

loss = sum over the levels of the mean over the queries of -log softmax(cosine / temperature)[positive]. The peers know
one level and no norms: rows are normalised and scaled for them under autograd, level by level.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec

import psutil
import torch
import torch.nn.functional as F
from fused_contrastive import Matryoshka, info_nce
from torch import Tensor

from benchmarks.kernel.cases import TEMPERATURE, Case

# (query_BD, document_ND, positive_B, dims) -> loss
Loss = Callable[[Tensor, Tensor, Tensor, tuple[int, ...]], Tensor]
# (query_BD, document_ND, positive_B) -> loss of one level; the rows cut to it, but not normalised
LevelLoss = Callable[[Tensor, Tensor, Tensor], Tensor]
# why a side cannot run here; None when it can
Obstacle = Callable[[Case, torch.device], str | None]


@dataclass(frozen=True)
class Side:
    """One competitor; `one_pass` where all levels come from one call, else it is called once per level."""

    name: str
    loss: Loss
    obstacle: Obstacle
    ours: bool = False
    one_pass: bool = False

    def available(self, case: Case, device: torch.device) -> str | None:
        """None, or why the side cannot run `case` on `device`."""
        return self.obstacle(case, device)

    def passes(self, case: Case) -> int:
        return 1 if self.one_pass else len(case.dims)


def sides(case: Case) -> list[Side]:
    """All competitors for a case; with one level, separate passes of ours are no side of their own."""
    return [NAIVE, *OURS, *(OURS_BY_LEVEL if len(case.dims) > 1 else ()), *PEERS]


def level_by_level(level_loss: LevelLoss) -> Loss:
    """The sum over the levels, each computed for itself."""

    def loss(query_BD: Tensor, document_ND: Tensor, positive_B: Tensor, dims: tuple[int, ...]) -> Tensor:
        losses = [level_loss(prefix(query_BD, dim), prefix(document_ND, dim), positive_B) for dim in dims]
        return torch.stack(losses).sum()

    return loss


def prefix(rows: Tensor, dim: int) -> Tensor:
    """The first `dim` columns. No slice where that is all of them: its backward would copy the gradient."""
    return rows if dim == rows.shape[1] else rows[:, :dim]


def scaled_rows(query_BD: Tensor, document_ND: Tensor) -> tuple[Tensor, Tensor]:
    """Rows whose products are the logits."""
    return F.normalize(query_BD, dim=1) / TEMPERATURE, F.normalize(document_ND, dim=1)


def naive(query_BD: Tensor, document_ND: Tensor, positive_B: Tensor) -> Tensor:
    """What one writes first, with the softmax in float32 as autocast has it."""
    cosine_BN = F.normalize(query_BD, dim=1) @ F.normalize(document_ND, dim=1).T
    return F.cross_entropy(cosine_BN.float() / TEMPERATURE, positive_B)


def compiled_naive(query_BD: Tensor, document_ND: Tensor, positive_B: Tensor) -> Tensor:
    return _compile_naive()(query_BD, document_ND, positive_B)


@cache
def _compile_naive() -> LevelLoss:
    # Sizes are symbols: they change from level to level, and one compilation each would take minutes. A full graph,
    # because then too many recompilations are an error instead of a silent return to eager mode.
    return torch.compile(naive, dynamic=True, fullgraph=True)


def linear_cross_entropy(query_BD: Tensor, document_ND: Tensor, positive_B: Tensor) -> Tensor:
    """torch's, in chunks: without options it materialises the logits, as naive does."""
    options = torch.nn.LinearCrossEntropyOptions()
    return F.linear_cross_entropy(*scaled_rows(query_BD, document_ND), positive_B, options=options)


def quack(query_BD: Tensor, document_ND: Tensor, positive_B: Tensor) -> Tensor:
    from quack.linear_cross_entropy import chunked_linear_cross_entropy

    return chunked_linear_cross_entropy(*scaled_rows(query_BD, document_ND), positive_B, reduction="mean")


def liger(query_BD: Tensor, document_ND: Tensor, positive_B: Tensor) -> Tensor:
    """Its usual fused linear cross entropy; document gradients are summed in float32, as ours are."""
    from liger_kernel.transformers.functional import liger_fused_linear_cross_entropy

    query_BD, document_ND = scaled_rows(query_BD, document_ND)
    return liger_fused_linear_cross_entropy(query_BD, document_ND, positive_B, accum_dtype=torch.float32)


def liger_scaled(query_BD: Tensor, document_ND: Tensor, positive_B: Tensor) -> Tensor:
    """Its fused linear cross entropy with a temperature, on Hopper a kernel that never stores the logits."""
    from liger_kernel.ops import LigerFusedLinearScaledCrossEntropyFunction

    query_BD, document_ND = F.normalize(query_BD, dim=1), F.normalize(document_ND, dim=1)
    return LigerFusedLinearScaledCrossEntropyFunction.apply(query_BD, document_ND, positive_B, TEMPERATURE).mean()


def inf_cl(query_BD: Tensor, document_ND: Tensor, positive_B: Tensor) -> Tensor:
    """Computes in TF32 whatever comes. Its slices of D must be a power of two that divides D."""
    from inf_cl import cal_flash_loss

    query_BD, document_ND = F.normalize(query_BD, dim=1), F.normalize(document_ND, dim=1)
    slice_width = min(256, _power_of_two_in(query_BD.shape[1]))
    return cal_flash_loss(query_BD, document_ND, positive_B, scale=1 / TEMPERATURE, head_dim=slice_width).mean()


def cut_cross_entropy(query_BD: Tensor, document_ND: Tensor, positive_B: Tensor) -> Tensor:
    """Without its filter, which drops small gradients: most of the repulsion in a contrastive loss."""
    from cut_cross_entropy import linear_cross_entropy as cut_linear_cross_entropy

    return cut_linear_cross_entropy(*scaled_rows(query_BD, document_ND), positive_B, filter_eps=None)


def ours(implementation: str) -> Loss:
    """The package, all levels in one pass."""

    def loss(query_BD: Tensor, document_ND: Tensor, positive_B: Tensor, dims: tuple[int, ...]) -> Tensor:
        return info_nce(
            query_BD,
            document_ND,
            positive_B,
            temperature=TEMPERATURE,
            matryoshka=Matryoshka(dims),
            implementation=implementation,  # type: ignore[arg-type]
        ).loss

    return loss


def ours_by_level(implementation: str) -> Loss:
    """The package, called once per level."""

    def loss(query_BD: Tensor, document_ND: Tensor, positive_B: Tensor, dims: tuple[int, ...]) -> Tensor:
        return torch.stack([one_pass(query_BD, document_ND, positive_B, (dim,)) for dim in dims]).sum()

    one_pass = ours(implementation)
    return loss


def _power_of_two_in(number: int) -> int:
    """The largest power of two that divides it."""
    return number & -number


def _never(case: Case, device: torch.device) -> str | None:
    return None


def _needs_memory(case: Case, device: torch.device) -> str | None:
    """On a CPU only, where too large an allocation ends the process; a GPU's allocator says so itself."""
    if device.type != "cpu":
        return None
    matrices = len(case.dims) + 4  # float32 B x N matrices that live at once, counted in a profile
    needed, free = matrices * 4 * case.queries * case.documents, psutil.virtual_memory().available
    return None if needed < free else f"needs about {needed / 2**30:.0f} GiB, {free / 2**30:.0f} GiB are free"


def _needs_gpu(case: Case, device: torch.device) -> str | None:
    return None if device.type == "cuda" else "needs a GPU"


def _needs_torch_with_linear_cross_entropy(case: Case, device: torch.device) -> str | None:
    if hasattr(torch.nn, "LinearCrossEntropyOptions"):
        return None
    return f"torch {torch.__version__} has no linear_cross_entropy with chunks, 2.13 has"


def _needs_package(module: str, distribution: str, *, gpu_only: bool = True) -> Obstacle:
    def obstacle(case: Case, device: torch.device) -> str | None:
        if find_spec(module) is None:
            return f"{distribution} is not installed"
        return _needs_gpu(case, device) if gpu_only else None

    return obstacle


NAIVE = Side("naive", level_by_level(naive), _needs_memory)
OURS = (
    Side("chunked", ours("chunked"), _never, ours=True, one_pass=True),
    Side("triton", ours("triton"), _needs_gpu, ours=True, one_pass=True),
)
OURS_BY_LEVEL = (
    Side("chunked", ours_by_level("chunked"), _never, ours=True),
    Side("triton", ours_by_level("triton"), _needs_gpu, ours=True),
)
PEERS = (
    Side("torch.compile", level_by_level(compiled_naive), _needs_memory),
    Side("linear_cross_entropy", level_by_level(linear_cross_entropy), _needs_torch_with_linear_cross_entropy),
    Side("quack", level_by_level(quack), _needs_package("quack", "quack-kernels")),
    Side("liger", level_by_level(liger), _needs_package("liger_kernel", "liger-kernel")),
    Side(
        "liger_scaled",
        level_by_level(liger_scaled),
        _needs_package("liger_kernel", "liger-kernel", gpu_only=False),
    ),
    Side("inf_cl", level_by_level(inf_cl), _needs_package("inf_cl", "inf-cl")),
    # Last: its kernels spin on locks, a pattern that has been reported to hang on an H200.
    Side(
        "cut_cross_entropy", level_by_level(cut_cross_entropy), _needs_package("cut_cross_entropy", "cut-cross-entropy")
    ),
)
NAMES = tuple(side.name for side in (NAIVE, *OURS, *PEERS))
