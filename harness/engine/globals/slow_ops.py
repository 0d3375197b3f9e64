"""Keeps DeepSpeed from compiling what is not needed."""

from __future__ import annotations

import torch


def skip_slow_compilation() -> None:
    """Without a GPU: DeepSpeed shall not compile its own all-reduce."""
    if not torch.cuda.is_available():
        # Otherwise DeepSpeed compiles its own all-reduce for 25 s at the start; at these sizes gloo's is as fast.
        from deepspeed.ops import __compatible_ops__

        __compatible_ops__["deepspeed_shm_comm"] = False
