"""`training.compile`: torch.compile of the backbone's layers, one by one, so that equal layers are compiled once.

Compiled code takes any number of texts and tokens (dynamic shapes), so no step waits for a shape that it has not seen.
Whether it pays is a matter of the device and must be measured (docs/precision_and_memory.md).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from harness.encoder.encoder import Encoder
from harness.model_folder.find import words_of

# A function is compiled anew for a size of 1, for each mode (training, evaluation, with and without a graph) and for
# each kind of layer. Beyond this number torch would leave it as it is, silently.
_MOST_VARIANTS = 64


def compile_layers(encoder: Encoder) -> None:
    """Let torch compile every layer of the backbone when it first runs. Dropout masks are then torch's own.

    Raises:
        ValueError: the backbone has no layers that can be told apart, or torch cannot compile on this machine.
    """
    lists = [module for module in encoder.backbone.modules() if isinstance(module, nn.ModuleList) and len(module)]
    if not lists:
        raise ValueError(
            "training.compile: got true, but this backbone has no list of layers to compile, expected false for it"
        )
    _check_compiler()
    torch._dynamo.config.recompile_limit = max(_MOST_VARIANTS, torch._dynamo.config.recompile_limit)
    torch._dynamo.config.fail_on_recompile_limit_hit = True
    for layer in max(lists, key=len):
        layer.compile(dynamic=True)
    encoder.is_compiled = True


def _check_compiler() -> None:
    """Compile a small function: torch needs a C++ compiler for a CPU, a C compiler and Triton for a GPU."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    plus_one: Callable[[torch.Tensor], torch.Tensor] = torch.compile(_plus_one)
    try:
        plus_one(torch.ones(3, device=device))
    except Exception as error:  # whatever goes wrong in a compiler or a driver
        raise ValueError(
            f"training.compile: got true, but torch cannot compile for this {device} ({words_of(error)[:200]}), "
            "expected a working compiler; install one, or set training.compile: false"
        ) from error


def _plus_one(tensor: torch.Tensor) -> Any:
    return tensor + 1
