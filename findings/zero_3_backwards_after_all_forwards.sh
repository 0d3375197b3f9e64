#!/usr/bin/env bash
# DeepSpeed 0.19.8: several forwards, then their backwards, with the gradient accumulation boundary set as documented.
#
# Expected: the step applies the sum of the gradients, as it does where every backward follows its own forward.
# Seen: ZeRO stages 0 to 2 apply the sum; stage 3 applies the gradient of the last call alone. No error, no warning: it
# counts micro-batches at the start of a forward, so that backwards without a forward between them count as one.
# What helps: engine.optimizer.clear_backward_seen_flag() before each backward.
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
    # The gradients of these three parts are 1, 10 and 100 everywhere.
    losses = [engine(torch.full((1, 4), value)).sum() for value in (1.0, 10.0, 100.0)]
    for index, loss in enumerate(losses):
        engine.set_gradient_accumulation_boundary(index == 2)
        engine.backward(loss)
    engine.step()
    with deepspeed.zero.GatheredParameters(list(engine.module.parameters()), enabled=stage == 3):
        applied = float((start - engine.module.weight.detach().cpu()).mean())
    print(f"result: stage {stage} applied {applied:.0f} of 111")
PYTHON
PATH="$folder/venv/bin:$PATH" "$folder/venv/bin/python" "$folder/run.py" 2>/dev/null | grep -E '^(versions|result)' | tee "$folder/seen"
diff <(grep result "$folder/seen") - <<'SEEN'
result: stage 0 applied 111 of 111
result: stage 1 applied 111 of 111
result: stage 2 applied 111 of 111
result: stage 3 applied 100 of 111
SEEN
