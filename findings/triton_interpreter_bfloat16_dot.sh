#!/usr/bin/env bash
# Triton 3.9.0: tl.dot of bfloat16 blocks in the interpreter (TRITON_INTERPRET=1), which tests kernels without a GPU.
#
# Expected: the product within bfloat16's rounding, or an error.
# Seen: numbers that have nothing to do with the product (more than 1,000 times its largest value), and no message; float16 and
# float32 are right. A test of a bfloat16 kernel in the interpreter says nothing: ours run in float16 and float32.
#
# Versions seen: triton 3.9.0, torch 2.13.0 (CPU), numpy 2.4.6, Python 3.11. Exit status 1: the behaviour has changed.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q torch==2.13.0 triton==3.9.0 numpy==2.4.6
cat >"$folder/run.py" <<'PYTHON'
import os

os.environ["TRITON_INTERPRET"] = "1"
import torch
import triton
import triton.language as tl


@triton.jit
def product(left_ptr, right_ptr, result_ptr, SIZE: tl.constexpr):
    row, column = tl.arange(0, SIZE)[:, None], tl.arange(0, SIZE)[None, :]
    left, right = tl.load(left_ptr + row * SIZE + column), tl.load(right_ptr + row * SIZE + column)
    tl.store(result_ptr + row * SIZE + column, tl.dot(left, right, out_dtype=tl.float32))


print("versions: triton", triton.__version__, "torch", torch.__version__)
torch.manual_seed(0)
for dtype in (torch.float32, torch.float16, torch.bfloat16):
    left, right = (torch.randn(16, 16).to(dtype) for _ in range(2))
    result, true = torch.empty(16, 16), left.double() @ right.double()
    product[(1,)](left, right, result, SIZE=16)
    error = float((result.double() - true).abs().max() / true.abs().max())
    verdict = "right" if error < 1e-3 else "off by more than 1,000 times the largest value" if not error < 1e3 else "off"
    print(f"result: {dtype}: {verdict}")
PYTHON
"$folder/venv/bin/python" "$folder/run.py" | tee "$folder/seen"
diff <(grep result "$folder/seen") - <<'SEEN'
result: torch.float32: right
result: torch.float16: right
result: torch.bfloat16: off by more than 1,000 times the largest value
SEEN
