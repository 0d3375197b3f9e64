#!/usr/bin/env bash
# DeepSpeed 0.19.8: several engine.backward() calls before one engine.step(), with gradient_accumulation_steps 1.
#
# Expected: the step applies the sum of the gradients, as torch's own backward() does, or DeepSpeed refuses.
# Seen: ZeRO stages 0 and 3 apply the sum; stages 1 and 2 apply the gradient of the last call alone. No error, no warning.
# A gradient cache (GradCache) that replays its micro-batches this way trains on the last micro-batch only.
# What helps: engine.set_gradient_accumulation_boundary(is_last) before each backward.
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
for stage in (0, 1, 2, 3):
    model = torch.nn.Linear(4, 1, bias=False)
    start = model.weight.detach().clone()
    settings = {
        "train_batch_size": 1,
        "gradient_clipping": 0.0,
        "zero_allow_untested_optimizer": True,
        "zero_optimization": {"stage": stage},
    }
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    engine, *_ = deepspeed.initialize(model=model, optimizer=optimizer, config=settings)
    for value in (1.0, 10.0, 100.0):  # the gradients of these three parts are 1, 10 and 100 everywhere
        engine.backward(engine(torch.full((1, 4), value)).sum())
    engine.step()
    with deepspeed.zero.GatheredParameters(list(engine.module.parameters()), enabled=stage == 3):
        applied = float((start - engine.module.weight.detach().cpu()).mean())
    print(f"result: stage {stage} applied {applied:.0f} of 111")
PYTHON
PATH="$folder/venv/bin:$PATH" "$folder/venv/bin/python" "$folder/run.py" 2>/dev/null | grep -E '^(versions|result)' | tee "$folder/seen"
diff <(grep result "$folder/seen") - <<'SEEN'
result: stage 0 applied 111 of 111
result: stage 1 applied 100 of 111
result: stage 2 applied 100 of 111
result: stage 3 applied 111 of 111
SEEN
