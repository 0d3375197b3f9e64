"""What DeepSpeed tries at its start does not show."""

from __future__ import annotations

import subprocess
import sys


def test_in_a_notebook_the_linker_of_deepspeed_is_as_silent_as_elsewhere() -> None:
    """A kernel's sys.stderr is a file of its own; DeepSpeed silenced that one, and the linker wrote into the cell."""
    code = """
import io, os, sys
class OfKernel(io.StringIO):
    def fileno(self):
        return copy
copy, seen = os.dup(2), []
sys.stderr = OfKernel()
from deepspeed.ops.op_builder.builder import OpBuilder
OpBuilder.has_function = lambda *_, **__: seen.append(sys.stderr.fileno()) or False
from harness.engine.globals.slow_ops import skip_slow_compilation
skip_slow_compilation()
print(set(seen), type(sys.stderr).__name__)
"""
    environment = {"DS_ACCELERATOR": "cpu", "CUDA_VISIBLE_DEVICES": "", "PATH": "/usr/bin:/bin"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    assert done.stdout.splitlines()[-1] == "{2} OfKernel"
