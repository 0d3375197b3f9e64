#!/usr/bin/env bash
# torch 2.13.0 on a CPU with bfloat16 instructions (avx512_bf16): the backward of scaled_dot_product_attention in bfloat16.
#
# Expected: faster than in float32, as matrix products are (about twice as fast), or at least no slower.
# Seen: for short texts (8 texts of 128 tokens, 12 heads of 32) it takes about 3 times as long as in float32; at 512 tokens it is
# about as slow as float32. The forwards are within about a tenth of each other. Worth a try where such a CPU
# trains in bfloat16: attention alone in float32.
#
# Figures are the least CPU time of several turns on one thread, and are of one kind of CPU (an EPYC with avx512_bf16); on a CPU
# without these instructions the script says so and ends with 0. It fails only if bfloat16's backward is not slower at 128 tokens
# while bfloat16's matrix product is faster.
#
# Versions seen: torch 2.13.0 (CPU), numpy 2.4.6, Python 3.11. Exit status 1: the behaviour has changed.
set -euo pipefail
if ! grep -qw avx512_bf16 /proc/cpuinfo; then
    echo "skipped: this CPU has no avx512_bf16; the finding is about CPUs that have it"
    exit 0
fi
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q torch==2.13.0 numpy==2.4.6
cat >"$folder/run.py" <<'PYTHON'
import sys
import time

import torch

torch.set_num_threads(1)
torch.manual_seed(0)
print("version: torch", torch.__version__)


def attention_work(shape, dtype):
    """The forward and the backward of one attention as functions to be timed."""
    query, key, value = (torch.randn(shape).to(dtype).requires_grad_() for _ in range(3))
    attend = torch.nn.functional.scaled_dot_product_attention
    output = attend(query, key, value)
    slope = torch.randn(shape).to(dtype)
    return (
        lambda: attend(query, key, value),
        lambda: torch.autograd.grad(output, (query, key, value), slope, retain_graph=True),
    )


def product_work(dtype):
    left, right = (torch.randn(512, 512).to(dtype) for _ in range(2))
    return lambda: left @ right


def milliseconds(work, calls=5):
    start = time.process_time()
    for _ in range(calls):
        work()
    return (time.process_time() - start) / calls * 1e3


def compare(title, in_float32, in_bfloat16, turns=9):
    """Time both by turns, so that other work on the machine meets both; the least of each counts."""
    times = [(milliseconds(in_float32), milliseconds(in_bfloat16)) for _ in range(turns + 1)][1:]
    float32, bfloat16 = (min(column) for column in zip(*times, strict=True))
    print(f"result: {title}: float32 {float32:.2f} ms, bfloat16 {bfloat16:.2f} ms, ratio {bfloat16 / float32:.2f}")
    return bfloat16 / float32


product = compare("matrix product 512 x 512", product_work(torch.float32), product_work(torch.bfloat16))
backward = {}
for shape in ((8, 12, 128, 32), (2, 12, 512, 64)):
    float32, bfloat16 = (attention_work(shape, dtype) for dtype in (torch.float32, torch.bfloat16))
    compare(f"attention {shape}, forward", float32[0], bfloat16[0])
    backward[shape] = compare(f"attention {shape}, backward", float32[1], bfloat16[1])
if product < 1 and backward[8, 12, 128, 32] <= 1:
    sys.exit("changed: bfloat16's backward is no longer slower than float32's")
PYTHON
"$folder/venv/bin/python" "$folder/run.py"
