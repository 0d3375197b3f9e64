#!/usr/bin/env bash
# DeepSpeed 0.19.8, ZeRO stages 1 and 2, with reduce_scatter at its default (true): what is sent for the gradients of two ranks.
#
# Expected: as the option is documented ("Uses reduce or reduce scatter instead of allreduce to average gradients"), a rank
# receives the sums of the gradients whose optimizer state it owns: half of them here.
# Seen: one all_reduce of every gradient, so that each rank receives the sums of the other rank's half too and keeps its own half
# of them. The reason is another option, use_multi_rank_bucket_allreduce, which is on by default. With it off each rank's part is
# sent by a reduce of its own; a torch reduce_scatter is called in neither case.
# What helps where gradients travel slowly: use_multi_rank_bucket_allreduce false (measure: it makes one call for each rank).
#
# Versions seen: deepspeed 0.19.8, torch 2.13.0 (CPU, gloo), numpy 2.4.6, Python 3.11. Exit status 1: the behaviour has changed.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q torch==2.13.0 deepspeed==0.19.8 numpy==2.4.6 ninja==1.13.2
cat >"$folder/run.py" <<'PYTHON'
import collections
import os
import socket

import torch
import torch.distributed as dist
import torch.multiprocessing as mp

NAMES = ("all_reduce", "reduce", "reduce_scatter", "reduce_scatter_tensor", "reduce_scatter_single", "all_to_all_single")
sent = collections.Counter()


def count_calls(name):
    """Let torch.distributed count the calls of one collective and the numbers given to it."""
    original = getattr(dist, name)

    def counted(tensor, *args, **kwargs):
        numbers = args[0] if name.startswith("reduce_scatter") else tensor
        numbers = [numbers] if torch.is_tensor(numbers) else numbers
        sent[f"{name} calls"] += 1
        sent[f"{name} numbers"] += sum(part.numel() for part in numbers)
        return original(tensor, *args, **kwargs)

    setattr(dist, name, counted)


def show(rank, port):
    os.environ.update(DS_ACCELERATOR="cpu", RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE="2")
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port), OMP_NUM_THREADS="1")
    for name in NAMES:
        count_calls(name)  # before the import: deepspeed takes some of these functions then
    import deepspeed
    from deepspeed.ops import __compatible_ops__

    __compatible_ops__["deepspeed_shm_comm"] = False  # would be compiled first; not needed here
    deepspeed.init_distributed("gloo")
    if rank == 0:
        print("versions: deepspeed", deepspeed.__version__, "torch", torch.__version__, flush=True)
    for stage in (1, 2):
        for option in ({}, {"use_multi_rank_bucket_allreduce": False}):
            # Four equal weights of 256 numbers: each of the two ranks owns two of them.
            model = torch.nn.Sequential(*(torch.nn.Linear(16, 16, bias=False) for _ in range(4)))
            settings = {
                "train_micro_batch_size_per_gpu": 1,
                "zero_allow_untested_optimizer": True,
                "zero_optimization": {"stage": stage, "reduce_scatter": True, **option},
            }
            optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
            engine, *_ = deepspeed.initialize(model=model, optimizer=optimizer, config=settings)
            loss = engine(torch.ones(1, 16)).sum()
            sent.clear()
            engine.backward(loss)
            seen = ", ".join(f"{sent[f'{n} calls']} {n} of {sent[f'{n} numbers']}" for n in NAMES if sent[f"{n} calls"])
            engine.step()
            if rank == 0:
                print(f"result: stage {stage}, {option or 'defaults'}: 1024 gradients by {seen}", flush=True)
    dist.destroy_process_group()


if __name__ == "__main__":
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    mp.spawn(show, (port,), nprocs=2)
PYTHON
PATH="$folder/venv/bin:$PATH" "$folder/venv/bin/python" "$folder/run.py" 2>/dev/null | grep -E '^(versions|result)' | tee "$folder/seen"
diff <(grep result "$folder/seen") - <<'SEEN'
result: stage 1, defaults: 1024 gradients by 1 all_reduce of 1024
result: stage 1, {'use_multi_rank_bucket_allreduce': False}: 1024 gradients by 2 reduce of 1024
result: stage 2, defaults: 1024 gradients by 1 all_reduce of 1024
result: stage 2, {'use_multi_rank_bucket_allreduce': False}: 1024 gradients by 2 reduce of 1024
SEEN
