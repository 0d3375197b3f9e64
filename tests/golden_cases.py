"""The cases of the golden equalities: ranks, ZeRO stages, micro-batches, precisions, kept graphs, losses, backbones."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from tests.golden_encoders import Backbone
from tests.golden_mixtures import Mixture

SMALL_BUDGET, LARGE_BUDGET = 64, 4096  # padded tokens: many micro-batches; one micro-batch


Adapter = Literal["", "lora", "dora"]
Kept = Literal["none", "half", "all"]


@dataclass(frozen=True)
class Case:
    world: int
    stage: int
    budget: int = SMALL_BUDGET
    precision: str = "fp32"
    dropout: float = 0.0
    shuffled: bool = False
    offload: bool = False
    kept: Kept = "none"  # graphs of the embed phase that are used again
    implementation: str = "chunked"  # of the loss; plain autograd always uses the reference
    mixture: Mixture | None = None  # replaces the tasks and losses of `tiny_plan`
    backbone: Backbone = "bert"
    gather: str = "table"  # loss.gather
    compiled: bool = False  # training.compile; plain autograd never is
    soft_mask: bool = False  # model.attention_mask: soft, in the middle of its schedule
    adapter: Adapter = ""  # model.lora: its dropout is that of the case
    recomputed: bool = False  # model.gradient_checkpointing
    frozen: bool = False  # model.freeze: the embeddings and the first layer
    layer_decay: bool = False  # training.layer_decay
    negatives: bool = False  # switches on all options of negatives: symmetric, same tower, hardness, guide

    def __str__(self) -> str:
        marks = [name for name in ("shuffled", "offload", "compiled", "soft_mask") if getattr(self, name)]
        marks += [self.mixture] if self.mixture else []
        marks += [self.gather] if self.gather != "table" else []
        marks += [name for name in ("frozen", "layer_decay", "recomputed") if getattr(self, name)]
        marks += [self.adapter] if self.adapter else []
        marks += ["negatives"] if self.negatives else []
        marks += [self.implementation] if self.implementation != "chunked" else []
        marks += ["dropout"] if self.dropout else []
        marks += [f"{self.kept} graphs kept"] if self.kept != "none" else []
        marks += [self.backbone] if self.backbone != "bert" else []
        return (
            f"{self.world} ranks, ZeRO {self.stage}, {self.budget} tokens, {self.precision} {' '.join(marks)}".strip()
        )


def partial_cases(world: int, *, all_of_them: bool) -> list[Case]:
    """Cases that train a part of the model: all, for `python -m tests.golden`, or the few for every change."""
    if not all_of_them:
        few = [Case(world, 3 - world if world < 3 else 3, adapter="lora", dropout=0.2, kept="half")]
        few += [Case(world, world, adapter="dora"), Case(world, 3 if world < 3 else 1, frozen=True)]
        return few
    every = []
    for stage in (0, 1, 2, 3):
        for adapter in ("lora", "dora"):
            every += [Case(world, stage, adapter=adapter, kept=kept) for kept in get_args(Kept)]
            every += [Case(world, stage, adapter=adapter, dropout=0.2, kept=kept) for kept in ("none", "half")]
            every.append(Case(world, stage, adapter=adapter, precision="bf16"))
            every += [Case(world, stage, adapter=adapter, shuffled=True)] if world > 1 else []
            every += [Case(world, stage, adapter=adapter, precision="bf16_weights")] if stage else []
            every += [Case(world, stage, adapter=adapter, offload=True)] if stage in (2, 3) else []
        every.append(Case(world, stage, frozen=True, kept="half"))
    if world == 2:
        every += [Case(world, stage, adapter="lora", precision="fp16") for stage in (0, 1, 2, 3)]
        every += [
            Case(world, stage, adapter="lora", backbone=name) for stage in (1, 3) for name in ("t5", "albert", "qwen3")
        ]
        every += [Case(world, stage, adapter="lora", recomputed=True, dropout=0.2) for stage in (1, 3)]
        every += [
            Case(world, stage, adapter=adapter, compiled=True) for stage in (0, 2) for adapter in ("lora", "dora")
        ]
    return every


def cases(world: int) -> list[Case]:
    """All cases for one number of ranks that train the whole model."""
    all_cases = []
    for stage in (0, 1, 2, 3):
        for budget in (SMALL_BUDGET, LARGE_BUDGET):
            all_cases.append(Case(world, stage, budget))
            all_cases.append(Case(world, stage, budget, dropout=0.2))
            all_cases.append(Case(world, stage, budget, precision="bf16"))
        if stage:  # at stage 0 this precision is refused
            all_cases.append(Case(world, stage, precision="bf16_weights"))
        all_cases.append(Case(world, stage, dropout=0.2, kept="half"))
        all_cases.append(Case(world, stage, dropout=0.2, kept="all"))
        if world > 1:
            all_cases += [Case(world, stage, shuffled=True, kept=kept) for kept in ("none", "all")]
        if stage in (2, 3):
            all_cases += [Case(world, stage, offload=True, kept=kept) for kept in ("none", "all")]
        all_cases.append(Case(world, stage, implementation="triton"))
    all_cases += [Case(world, stage, negatives=True) for stage in (1, 3)]
    all_cases += [Case(world, 2, mixture=mixture) for mixture in get_args(Mixture)]
    ring = [Case(world, 1, gather="ring"), Case(world, 1, precision="bf16", gather="ring")]
    ring += [Case(world, 1, shuffled=world > 1, negatives=True, gather="ring")]
    ring += [Case(world, 2, mixture=mixture, gather="ring") for mixture in get_args(Mixture)]
    all_cases += [*ring, Case(world, 2, mixture="shared", negatives=True, gather="ring")]
    if world == 2:
        all_cases += [Case(world, stage, backbone=name) for stage in (1, 3) for name in ("t5", "albert", "qwen3")]
        soft = {"backbone": "qwen3", "soft_mask": True}
        all_cases += [Case(world, stage, **soft, kept=kept) for stage, kept in ((1, "none"), (2, "half"), (3, "all"))]
        all_cases += [Case(world, 1, LARGE_BUDGET, **soft), Case(world, 2, precision="bf16", **soft)]
        all_cases += [Case(world, 1, precision="bf16_weights", **soft)]
        all_cases += [Case(world, stage, precision="fp16") for stage in (0, 1, 2, 3)]
        all_cases += [
            Case(world, stage, precision=precision, offload=True)
            for stage, precision in ((2, "bf16"), (3, "bf16"), (2, "fp16"))
        ]
        all_cases += [Case(world, stage, backbone="albert", precision="bf16") for stage in (1, 3)]
        all_cases.append(Case(world, 2, mixture="shared", negatives=True))
        all_cases += [Case(world, stage, compiled=True, kept="half") for stage in (0, 1, 2)]
        all_cases.append(Case(world, 2, precision="bf16", compiled=True))
    return all_cases
