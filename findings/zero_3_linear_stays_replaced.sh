#!/usr/bin/env bash
# DeepSpeed 0.19.8: after a ZeRO-3 engine, torch.nn.functional.linear stays DeepSpeed's own for the rest of the process.
#
# Expected: what ZeRO-3 needs while it trains ends with the engine (destroy()) and the process group, so that a model which has
# nothing to do with DeepSpeed computes the same gradients after a training as before it.
# Seen: torch.nn.functional.linear is still DeepSpeed's zero3_linear_wrap, after destroy() and after the group is gone. Every
# torch.nn.Linear of the process, also of models that DeepSpeed never sees, then runs DeepSpeed's Python autograd function. Two
# equal trainings of a small BERT, one before and one after a ZeRO-3 training of the same process, ended with other weights.
# Way out: InsertPostInitMethodToModuleSubClasses.linear_bk holds torch's function; put it back after the training.
#
# Versions seen: deepspeed 0.19.8, torch 2.13.0 (CPU), Python 3.11. Exit status 1: the behaviour has changed.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q torch==2.13.0 deepspeed==0.19.8 numpy==2.4.6 setuptools ninja
cat >"$folder/run.py" <<'PYTHON'
import gc
import logging
import sys

import deepspeed
import torch
from deepspeed.ops import __compatible_ops__

__compatible_ops__["deepspeed_shm_comm"] = False  # would be compiled first; not needed here
logging.getLogger("DeepSpeed").setLevel(logging.ERROR)
print("versions: deepspeed", deepspeed.__version__, "torch", torch.__version__)
torch.set_num_threads(1)


def backward_of_a_plain_model():
    """The name of the backward function of a model that DeepSpeed never sees."""
    return type(torch.nn.Linear(96, 64)(torch.randn(7, 33, 96)).grad_fn).__name__


own, before = torch.nn.functional.linear, backward_of_a_plain_model()
deepspeed.init_distributed("gloo", verbose=False)
config = {"train_micro_batch_size_per_gpu": 1, "zero_optimization": {"stage": 3}, "zero_allow_untested_optimizer": True,
          "zero_force_ds_cpu_optimizer": False}
model = torch.nn.Linear(8, 8)
engine, *_ = deepspeed.initialize(model=model, optimizer=torch.optim.AdamW(model.parameters()), config=config)
engine.backward(engine(torch.randn(2, 8)).sum())
engine.step()
engine.destroy()
del engine, model
gc.collect()
torch.distributed.destroy_process_group()

name = f"{torch.nn.functional.linear.__module__}.{torch.nn.functional.linear.__name__}"
print("result: torch.nn.functional.linear is", name)
print("result: the backward of a plain model was", before, "and is", backward_of_a_plain_model())
if torch.nn.functional.linear is own:
    sys.exit("changed: torch.nn.functional.linear is torch's own again")
PYTHON
cd "$folder"
PATH="$folder/venv/bin:$PATH" DS_ACCELERATOR=cpu RANK=0 LOCAL_RANK=0 WORLD_SIZE=1 MASTER_ADDR=127.0.0.1 MASTER_PORT=29613 \
    "$folder/venv/bin/python" "$folder/run.py" 2>/dev/null
