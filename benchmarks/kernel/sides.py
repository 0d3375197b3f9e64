"""The sides of the kernel benchmark: functions that compute the same loss from the same unnormalised rows.

loss = sum over the levels of the mean over the queries of -log softmax(cosine / temperature)[positive]. The other
packages handle one level and do not normalise; for them, autograd code normalises and scales the rows of each level.
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
# (query_BD, document_ND, positive_B) -> loss of one level; the rows have the columns of this level, unnormalised
LevelLoss = Callable[[Tensor, Tensor, Tensor], Tensor]
# the reason why a side cannot run here; None if it can
Obstacle = Callable[[Case, torch.device], str | None]


@dataclass(frozen=True)
class Side:
    """One implementation of the loss. one_pass: one call computes all levels; otherwise one call per level."""

    name: str
    loss: Loss
    obstacle: Obstacle
    ours: bool = False
    one_pass: bool = False

    def available(self, case: Case, device: torch.device) -> str | None:
        """None, or the reason why the side cannot run `case` on `device`."""
        return self.obstacle(case, device)

    def passes(self, case: Case) -> int:
        return 1 if self.one_pass else len(case.dims)


def sides(case: Case) -> list[Side]:
    """All sides for a case. With a single level, ours by level equals ours and is left out."""
    return [NAIVE, *OURS, *(OURS_BY_LEVEL if len(case.dims) > 1 else ()), *PEERS]


def level_by_level(level_loss: LevelLoss) -> Loss:
    """Turn the loss of one level into the sum over levels, with one call per level."""

    def loss(query_BD: Tensor, document_ND: Tensor, positive_B: Tensor, dims: tuple[int, ...]) -> Tensor:
        losses = [level_loss(prefix(query_BD, dim), prefix(document_ND, dim), positive_B) for dim in dims]
        return torch.stack(losses).sum()

    return loss


def prefix(rows: Tensor, dim: int) -> Tensor:
    """The first `dim` columns. For all columns return `rows`, because the backward of a slice copies the gradient."""
    return rows if dim == rows.shape[1] else rows[:, :dim]


def scaled_rows(query_BD: Tensor, document_ND: Tensor) -> tuple[Tensor, Tensor]:
    """Scale the rows so that their dot products are the logits, cosine / temperature."""
    return F.normalize(query_BD, dim=1) / TEMPERATURE, F.normalize(document_ND, dim=1)


def naive(query_BD: Tensor, document_ND: Tensor, positive_B: Tensor) -> Tensor:
    """The straightforward code. The softmax is in float32, as under autocast."""
    cosine_BN = F.normalize(query_BD, dim=1) @ F.normalize(document_ND, dim=1).T
    return F.cross_entropy(cosine_BN.float() / TEMPERATURE, positive_B)


def compiled_naive(query_BD: Tensor, document_ND: Tensor, positive_B: Tensor) -> Tensor:
    return _compile_naive()(query_BD, document_ND, positive_B)


@cache
def _compile_naive() -> LevelLoss:
    # dynamic: the width changes from level to level, and a compilation for each width would take minutes.
    # fullgraph: too many recompilations are then an error instead of a silent return to eager mode.
    return torch.compile(naive, dynamic=True, fullgraph=True)


def linear_cross_entropy(query_BD: Tensor, document_ND: Tensor, positive_B: Tensor) -> Tensor:
    """torch's function in chunks. Without `options` it stores all logits, as naive does."""
    options = torch.nn.LinearCrossEntropyOptions()
    return F.linear_cross_entropy(*scaled_rows(query_BD, document_ND), positive_B, options=options)


def quack(query_BD: Tensor, document_ND: Tensor, positive_B: Tensor) -> Tensor:
    from quack.linear_cross_entropy import chunked_linear_cross_entropy

    return chunked_linear_cross_entropy(*scaled_rows(query_BD, document_ND), positive_B, reduction="mean")


def liger(query_BD: Tensor, document_ND: Tensor, positive_B: Tensor) -> Tensor:
    """Liger's usual fused linear cross entropy. Document gradients are summed in float32, as in ours."""
    from liger_kernel.transformers.functional import liger_fused_linear_cross_entropy

    query_BD, document_ND = scaled_rows(query_BD, document_ND)
    return liger_fused_linear_cross_entropy(query_BD, document_ND, positive_B, accum_dtype=torch.float32)


def liger_scaled(query_BD: Tensor, document_ND: Tensor, positive_B: Tensor) -> Tensor:
    """Liger's fused linear cross entropy with a temperature. On Hopper it is a kernel that never stores the logits."""
    from liger_kernel.ops import LigerFusedLinearScaledCrossEntropyFunction

    query_BD, document_ND = F.normalize(query_BD, dim=1), F.normalize(document_ND, dim=1)
    return LigerFusedLinearScaledCrossEntropyFunction.apply(query_BD, document_ND, positive_B, TEMPERATURE).mean()


def inf_cl(query_BD: Tensor, document_ND: Tensor, positive_B: Tensor) -> Tensor:
    """inf-cl computes in TF32 for every input dtype. `head_dim` must be a power of two that divides D."""
    from inf_cl import cal_flash_loss

    query_BD, document_ND = F.normalize(query_BD, dim=1), F.normalize(document_ND, dim=1)
    slice_width = min(256, _power_of_two_in(query_BD.shape[1]))
    return cal_flash_loss(query_BD, document_ND, positive_B, scale=1 / TEMPERATURE, head_dim=slice_width).mean()


def cut_cross_entropy(query_BD: Tensor, document_ND: Tensor, positive_B: Tensor) -> Tensor:
    """Cut cross entropy without its filter. The filter drops small gradients, and in a contrastive loss most gradients
    of negatives are small.
    """
    from cut_cross_entropy import linear_cross_entropy as cut_linear_cross_entropy

    return cut_linear_cross_entropy(*scaled_rows(query_BD, document_ND), positive_B, filter_eps=None)


def ours(implementation: str) -> Loss:
    """Our package with one call for all levels."""

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
    """Our package with one call per level."""

    def loss(query_BD: Tensor, document_ND: Tensor, positive_B: Tensor, dims: tuple[int, ...]) -> Tensor:
        return torch.stack([one_pass(query_BD, document_ND, positive_B, (dim,)) for dim in dims]).sum()

    one_pass = ours(implementation)
    return loss


def _power_of_two_in(number: int) -> int:
    """The largest power of two that divides `number`."""
    return number & -number


def _never(case: Case, device: torch.device) -> str | None:
    return None


def _needs_memory(case: Case, device: torch.device) -> str | None:
    """Check the free memory on a CPU, where a too large allocation kills the process. On a GPU it raises an error."""
    if device.type != "cpu":
        return None
    matrices = len(case.dims) + 4  # float32 B x N matrices alive at the same time, counted in a profile
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
    # Last, because its kernels spin on locks, and such kernels were reported to hang on an H200.
    Side(
        "cut_cross_entropy", level_by_level(cut_cross_entropy), _needs_package("cut_cross_entropy", "cut-cross-entropy")
    ),
)
NAMES = tuple(side.name for side in (NAIVE, *OURS, *PEERS))
