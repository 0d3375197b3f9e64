#!/usr/bin/env bash
# pytorch-metric-learning 2.9.0: a loss of queries and documents (ref_emb), where query i belongs to document i and to no other, as
# with in-batch negatives.
#
# Expected: loss(query, labels, ref_emb=document, ref_labels=labels) is the cross-entropy of the cosines of each query with all
# documents. Equal labels give an equal loss.
# Seen: if both labels are one tensor, the loss is 0 and its gradient too: the library asks whether they are the same object, takes
# the documents for the queries themselves then, and drops every pair (i, i), which are all positive ones. With labels.clone() the
# loss is right. DistributedLossWrapper(loss, efficient=True), which is documented as each rank's own queries against all ranks'
# documents, drops them in either case, so that two ranks train nothing. No message.
# What helps: ref_labels=labels.clone(), and efficient=False.
#
# Versions seen: pytorch-metric-learning 2.9.0 (the newest for Python 3.11), torch 2.13.0 (CPU, gloo), Python 3.11. Exit status 1: the
# behaviour has changed.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q torch==2.13.0 pytorch-metric-learning==2.9.0 numpy==2.4.6
cat >"$folder/run.py" <<'PYTHON'
import sys
from importlib.metadata import version

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from pytorch_metric_learning.losses import NTXentLoss, SupConLoss
from pytorch_metric_learning.utils.distributed import DistributedLossWrapper

TEMPERATURE = 0.1


def batch(rows: slice) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    random = torch.Generator().manual_seed(0)
    query, document = torch.randn(2, 8, 16, generator=random)
    return query[rows].requires_grad_(), document[rows], torch.arange(8)[rows]


def show(name: str, value: torch.Tensor, query: torch.Tensor) -> None:
    value.backward()
    print(f"result: {name}: loss {value.item():.4f}, length of the queries' gradient {query.grad.norm().item():.4f}", flush=True)


def on_rank(rank: int, store: str) -> None:
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=2)
    for efficient in (False, True):
        query, document, labels = batch(slice(rank * 4, rank * 4 + 4))
        wrapped = DistributedLossWrapper(NTXentLoss(TEMPERATURE), efficient=efficient)
        value = wrapped(query, labels, ref_emb=document, ref_labels=labels.clone()) / 2  # the wrapper multiplies by the ranks
        total = value.detach().clone()
        dist.all_reduce(total)
        value.backward()
        if rank == 0:
            zero = not query.grad.any()
            print(f"result: two ranks, efficient={efficient}: loss {total.item() / 2:.4f}, gradient is 0: {zero}", flush=True)
    dist.destroy_process_group()


if __name__ == "__main__":
    print("versions:", *(f"{name} {version(name)}" for name in ("pytorch-metric-learning", "torch")), flush=True)
    query, document, labels = batch(slice(8))
    cosine = torch.nn.functional.normalize(query, dim=1) @ torch.nn.functional.normalize(document, dim=1).T
    show("cross-entropy", torch.nn.functional.cross_entropy(cosine / TEMPERATURE, labels), query)
    for loss in (NTXentLoss(TEMPERATURE), SupConLoss(TEMPERATURE)):
        for name, others in (("labels.clone()", labels.clone()), ("labels", labels)):
            query, document, _ = batch(slice(8))
            show(f"{type(loss).__name__}, ref_labels={name}", loss(query, labels, ref_emb=document, ref_labels=others), query)
    mp.spawn(on_rank, args=(sys.argv[1],), nprocs=2)
PYTHON
"$folder/venv/bin/python" "$folder/run.py" "$folder/store" 2>/dev/null | grep -E '^(versions|result)' | tee "$folder/seen"
diff <(grep result "$folder/seen") - <<'SEEN'
result: cross-entropy: loss 3.2895, length of the queries' gradient 0.9152
result: NTXentLoss, ref_labels=labels.clone(): loss 3.2895, length of the queries' gradient 0.9152
result: NTXentLoss, ref_labels=labels: loss 0.0000, length of the queries' gradient 0.0000
result: SupConLoss, ref_labels=labels.clone(): loss 3.2895, length of the queries' gradient 0.9152
result: SupConLoss, ref_labels=labels: loss 0.0000, length of the queries' gradient 0.0000
result: two ranks, efficient=False: loss 3.2895, gradient is 0: False
result: two ranks, efficient=True: loss 0.0000, gradient is 0: True
SEEN
