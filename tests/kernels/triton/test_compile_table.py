"""Every kernel variant that can be launched compiles for A100 and H100, in registers, without a GPU."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from fused_contrastive.triton.variants import all_variants

DTYPES = (torch.bfloat16, torch.float16, torch.float32)
KERNELS = Path(__file__).parents[3] / "kernels"


@pytest.mark.timeout(2400)  # takes two or three minutes on two cores, longer if they are shared
def test_every_variant_fits_the_chip_without_stack_or_spills() -> None:
    """Runs in a new process, because in this process the kernels are set up for the interpreter."""
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    environment["PYTHONPATH"] = os.pathsep.join([str(KERNELS), environment.get("PYTHONPATH", "")])
    command = [sys.executable, "-m", "fused_contrastive.triton.compile_table"]
    table = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert table.returncode == 0, table.stdout + table.stderr
    num_variants = sum(len(all_variants(chip, dtype)) for chip in ("sm_80", "sm_90") for dtype in DTYPES)
    assert table.stdout.count("\tfits") == num_variants > 100
