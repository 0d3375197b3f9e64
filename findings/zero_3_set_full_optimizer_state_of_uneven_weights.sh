#!/usr/bin/env bash
# DeepSpeed 0.19.8, ZeRO-3, two ranks: deepspeed.utils.safe_set_full_fp32_param and safe_set_full_optimizer_state on a weight
# whose number of elements is odd.
#
# Expected: the value is set, as by the same calls under ZeRO-1 and ZeRO-2, and as safe_get_full_fp32_param reads it.
# Seen: rank 1 raises "start (2) + length (2) exceeds dimension size (3)": the last rank's piece is padded, and the setter cuts
# that padded piece out of the value that has no padding. Even weights are set. Which weights fail depends on the number of ranks.
#
# Versions seen: deepspeed 0.19.8, torch 2.13.0 (CPU), numpy 2.4.6, Python 3.11. Exit status 1: the behaviour has changed.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q torch==2.13.0 deepspeed==0.19.8 numpy==2.4.6 ninja==1.13.2
cat >"$folder/run.py" <<'PYTHON'
import os

import deepspeed
import torch
from deepspeed.ops import __compatible_ops__
from deepspeed.utils import safe_get_full_fp32_param, safe_set_full_fp32_param, safe_set_full_optimizer_state

__compatible_ops__["deepspeed_shm_comm"] = False  # would be compiled first; not needed here
deepspeed.init_distributed("gloo")
rank = int(os.environ["RANK"])
if rank == 0:
    print("versions: deepspeed", deepspeed.__version__, "torch", torch.__version__, flush=True)


def tried(set_value, weight, *key):
    try:
        set_value(weight, torch.full(shape, 7.0), *key)
    except Exception as error:
        return f"{type(error).__name__}: {str(error).splitlines()[0]}"
    return "set"


for stage in (2, 3):
    for size in (4, 3):
        shape = (1, size)
        model = torch.nn.Linear(size, 1, bias=False)
        settings = {
            "train_batch_size": 2,
            "zero_allow_untested_optimizer": True,
            "zero_optimization": {"stage": stage, "stage3_param_persistence_threshold": 0},
        }
        optimizer = torch.optim.Adam(model.parameters(), lr=0.1)
        engine, *_ = deepspeed.initialize(model=model, optimizer=optimizer, config=settings)
        engine.backward(engine(torch.ones(1, size)).sum())
        engine.step()  # Adam has its state from here on
        weight = next(engine.module.parameters())
        found = [tried(safe_set_full_fp32_param, weight), tried(safe_set_full_optimizer_state, weight, "exp_avg")]
        for one in range(2):
            torch.distributed.barrier()
            if rank == one:
                print(f"result: stage {stage}, {size} elements, rank {rank}: {'; '.join(found)}", flush=True)
PYTHON
DS_ACCELERATOR=cpu "$folder/venv/bin/torchrun" --nproc-per-node 2 --master-port $((20000 + RANDOM % 8000)) "$folder/run.py" 2>/dev/null |
  grep -E "version|result" | tee "$folder/seen"
diff <(grep result "$folder/seen") - <<'SEEN'
result: stage 2, 4 elements, rank 0: set; set
result: stage 2, 4 elements, rank 1: set; set
result: stage 2, 3 elements, rank 0: set; set
result: stage 2, 3 elements, rank 1: set; set
result: stage 3, 4 elements, rank 0: set; set
result: stage 3, 4 elements, rank 1: set; set
result: stage 3, 3 elements, rank 0: set; set
result: stage 3, 3 elements, rank 1: RuntimeError: start (2) + length (2) exceeds dimension size (3).; RuntimeError: start (2) + length (2) exceeds dimension size (3).
SEEN
