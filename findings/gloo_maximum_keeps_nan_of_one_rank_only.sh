#!/usr/bin/env bash
# torch 2.13.0, backend gloo: all_reduce(MAX) and all_reduce(MIN) of a number that is NaN on one rank.
#
# Expected: NaN, as torch.max gives it; or at least the same answer whichever rank has the NaN.
# Seen: NaN if rank 0 has it, the number of rank 0 if rank 1 has it: the reduction compares, and no comparison with NaN is true.
# A check "is any rank's loss not finite" by the maximum of the losses therefore misses the ranks after the first. Reduce a flag
# (isnan as 0 or 1) instead.
#
# Versions seen: torch 2.13.0 (CPU), Python 3.11. Exit status 1: the behaviour has changed.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q torch==2.13.0 numpy==2.4.6
cat >"$folder/run.py" <<'PYTHON'
import sys

import torch
import torch.distributed as dist
import torch.multiprocessing as mp


def reduce_on_both(rank, store):
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=2)
    for owner in (0, 1):
        for name in ("MAX", "MIN"):
            number = torch.tensor(float("nan") if rank == owner else 1.0)
            dist.all_reduce(number, getattr(dist.ReduceOp, name))
            if rank == 0:
                print(f"result: {name} of nan on rank {owner} and 1.0 on the other: {number.item()}", flush=True)
    dist.destroy_process_group()


if __name__ == "__main__":
    print("version: torch", torch.__version__, flush=True)
    mp.spawn(reduce_on_both, (sys.argv[1],), nprocs=2)
PYTHON
"$folder/venv/bin/python" "$folder/run.py" "$folder/store" | tee "$folder/seen"
diff <(grep result "$folder/seen") - <<'SEEN'
result: MAX of nan on rank 0 and 1.0 on the other: nan
result: MIN of nan on rank 0 and 1.0 on the other: nan
result: MAX of nan on rank 1 and 1.0 on the other: 1.0
result: MIN of nan on rank 1 and 1.0 on the other: 1.0
SEEN
