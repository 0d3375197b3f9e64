#!/usr/bin/env bash
# DeepSpeed 0.19.8, ZeRO-3 with zero.Init: which weights `parameter.ndim >= 2` picks for weight decay.
#
# Expected: the matrices, as without DeepSpeed and under every other stage. Optimizers whose groups are made this way are common.
# Seen: none. A weight that zero.Init has divided has the shape [0] until it is gathered, so every weight counts as a bias or norm,
# nothing decays, and no error or warning says so. Names, and parameter.ds_shape, stay right.
#
# Versions seen: deepspeed 0.19.8, torch 2.13.0 (CPU), numpy 2.4.6, Python 3.11. Exit status 1: the behaviour has changed.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q torch==2.13.0 deepspeed==0.19.8 numpy==2.4.6 ninja==1.13.2
cat >"$folder/run.py" <<'PYTHON'
import os

os.environ.update(DS_ACCELERATOR="cpu", RANK="0", LOCAL_RANK="0", WORLD_SIZE="1", MASTER_ADDR="127.0.0.1")
import socket

with socket.socket() as probe:
    probe.bind(("127.0.0.1", 0))
    os.environ["MASTER_PORT"] = str(probe.getsockname()[1])
import deepspeed
import torch
from deepspeed.ops import __compatible_ops__

__compatible_ops__["deepspeed_shm_comm"] = False  # would be compiled first; not needed here
deepspeed.init_distributed("gloo")
print("versions: deepspeed", deepspeed.__version__, "torch", torch.__version__)


def groups(model):
    matrices = [p for p in model.parameters() if p.ndim >= 2]
    others = [p for p in model.parameters() if p.ndim < 2]
    return [{"params": matrices, "weight_decay": 0.5}, {"params": others, "weight_decay": 0.0}]


def shrunk(stage, with_init):
    """By what a step with zero gradients, learning rate 1 and decay 0.5 multiplies the weights of a Linear layer."""
    settings = {
        "train_batch_size": 1,
        "zero_allow_untested_optimizer": True,
        "zero_optimization": {"stage": stage},
    }
    if with_init:
        with deepspeed.zero.Init(config_dict_or_path=settings):
            model = torch.nn.Linear(4, 4)
    else:
        model = torch.nn.Linear(4, 4)
    chosen = [group for group in groups(model) if group["params"]]
    optimizer = torch.optim.SGD(chosen, lr=1.0)
    engine, *_ = deepspeed.initialize(model=model, optimizer=optimizer, config=settings)

    def weight():
        with deepspeed.zero.GatheredParameters(list(engine.module.parameters()), enabled=stage == 3):
            return engine.module.weight.detach().clone()

    before = weight()
    engine.backward((engine(torch.ones(1, 4)) * 0.0).sum())
    engine.step()
    return float((weight() / before).mean())


for stage, with_init in ((1, False), (2, False), (3, False), (3, True)):
    print(f"result: stage {stage}{' with zero.Init' if with_init else ''}: weights times {shrunk(stage, with_init):.2f}")
PYTHON
"$folder/venv/bin/python" "$folder/run.py" 2>/dev/null | grep -E "version|result" | tee "$folder/seen"
diff <(grep result "$folder/seen") - <<'SEEN'
result: stage 1: weights times 0.50
result: stage 2: weights times 0.50
result: stage 3: weights times 0.50
result: stage 3 with zero.Init: weights times 1.00
SEEN
