#!/usr/bin/env bash
# Triton 3.9.0, interpreter (TRITON_INTERPRET=1), which tests kernels without a GPU: x.to(tl.bfloat16) of a float32 number.
#
# Expected: the nearest number, as Triton's own default (fp_downcast_rounding "rtne") says and as torch's cast gives it.
# Seen: the lower 16 bits are cut off. Every number that is not exact comes out nearer to 0, with up to twice the error, and the errors
# of a sum add up instead of cancelling: positive numbers lose 0.26 percent on average. No message. float16 is rounded.
# A bound of error that is measured in the interpreter says nothing about the kernel on a GPU, in either direction.
# What helps: cast with torch outside the kernel, or test in float16 and float32.
#
# Versions seen: triton 3.9.0, torch 2.13.0 (CPU), numpy 2.4.6, Python 3.11. Exit status 1: the behaviour has changed.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q torch==2.13.0 triton==3.9.0 numpy==2.4.6
cat >"$folder/run.py" <<'PYTHON'
from importlib.metadata import version

import torch
import triton
import triton.language as tl

print("versions:", *(f"{name} {version(name)}" for name in ("triton", "torch", "numpy")))


@triton.jit
def cast(source, target, N: tl.constexpr):
    place = tl.arange(0, N)
    tl.store(target + place, tl.load(source + place).to(target.dtype.element_ty))


random = torch.Generator().manual_seed(0)
number = torch.rand(4096, generator=random)
for dtype in (torch.bfloat16, torch.float16):
    found = torch.empty(4096, dtype=dtype)
    cast[(1,)](number, found, 4096)
    print(f"result: {dtype}: as torch's cast: {torch.equal(found, number.to(dtype))}")
    for name, vector in (("interpreter", found), ("torch", number.to(dtype))):
        error = (vector.double() - number.double()) / number.double()
        if dtype == torch.bfloat16:
            print(f"result: {name}: largest relative error {error.abs().max():.4f}, mean error {error.mean():+.4f}")
    if dtype == torch.bfloat16:
        cut = (number.view(torch.int32) & -65536).view(torch.float32)
        print("result: lower 16 bits cut off:", torch.equal(found.float(), cut))
PYTHON
TRITON_INTERPRET=1 "$folder/venv/bin/python" "$folder/run.py" 2>/dev/null | grep -E '^(versions|result)' | tee "$folder/seen"
diff <(grep result "$folder/seen") - <<'SEEN'
result: torch.bfloat16: as torch's cast: False
result: interpreter: largest relative error 0.0074, mean error -0.0026
result: torch: largest relative error 0.0039, mean error -0.0001
result: lower 16 bits cut off: True
result: torch.float16: as torch's cast: True
SEEN
