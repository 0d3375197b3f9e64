"""Keeps DeepSpeed from compiling what is not needed."""

from __future__ import annotations

import sys
from contextlib import redirect_stderr

import torch


def skip_slow_compilation() -> None:
    """Without a GPU: DeepSpeed shall not compile its own all-reduce."""
    if not torch.cuda.is_available():
        # Otherwise DeepSpeed compiles its own all-reduce for 25 s at the start; at these sizes gloo's is as fast.
        # To see what can be built DeepSpeed runs the linker, and silences the file under sys.stderr. In a notebook that
        # is another one than the linker's, whose errors would stand in the cell; of a missing stderr there is nothing.
        with redirect_stderr(sys.__stderr__ or sys.stderr):
            from deepspeed.ops import __compatible_ops__

        __compatible_ops__["deepspeed_shm_comm"] = False
