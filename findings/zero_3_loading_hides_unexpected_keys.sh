#!/usr/bin/env bash
# transformers 5.23.0 under ZeRO-3 (an HfDeepSpeedConfig of stage 3 is alive): what from_pretrained(output_loading_info=True) says
# about a model folder with one weight too many, one missing, and one of another shape.
#
# Expected: the same report as without ZeRO-3, and ignore_mismatched_sizes=True taken as it is without ZeRO-3.
# Seen: missing_keys is right; unexpected_keys is always empty, and the weight too many is dropped without a word in the load
# report either. A weight of another shape raises although ignore_mismatched_sizes=True is given, with a message that recommends to
# give it. A check "the folder fits the model" by unexpected_keys therefore passes every folder.
# What helps: compare the names in the weight files with those of the model's state_dict.
#
# Versions seen: transformers 5.23.0, deepspeed 0.19.8, accelerate 1.15.0, torch 2.13.0 (CPU), numpy 2.4.6, Python 3.11.
# Exit status 1: the behaviour has changed.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q torch==2.13.0 transformers==5.23.0 accelerate==1.15.0 deepspeed==0.19.8 numpy==2.4.6 ninja==1.13.2
cat >"$folder/run.py" <<'PYTHON'
import os
import sys

os.environ.update(DS_ACCELERATOR="cpu", RANK="0", LOCAL_RANK="0", WORLD_SIZE="1", MASTER_ADDR="127.0.0.1")
os.environ["HF_HUB_OFFLINE"] = "1"
import socket

with socket.socket() as probe:
    probe.bind(("127.0.0.1", 0))
    os.environ["MASTER_PORT"] = str(probe.getsockname()[1])
import deepspeed
import torch
import transformers
from deepspeed.ops import __compatible_ops__
from safetensors.torch import load_file, save_file
from transformers.integrations import HfDeepSpeedConfig

__compatible_ops__["deepspeed_shm_comm"] = False  # would be compiled first; not needed here
deepspeed.init_distributed("gloo")
print("versions: deepspeed", deepspeed.__version__, "torch", torch.__version__, "transformers", transformers.__version__)
folder = sys.argv[1]
file = os.path.join(folder, "model.safetensors")


def load(title, **options):
    try:
        _, report = transformers.BertModel.from_pretrained(
            folder, add_pooling_layer=False, output_loading_info=True, **options
        )
    except RuntimeError as error:
        print(f"result: {title}: RuntimeError, recommends ignore_mismatched_sizes: {'=True' in str(error)}")
        return
    counts = ", ".join(f"{len(report[part])} {part}" for part in ("unexpected_keys", "missing_keys", "mismatched_keys"))
    print(f"result: {title}: {counts}")


def load_both(title):
    """The folder as it is; then with a weight of another shape."""
    weights = load_file(file)
    load(title)
    wider = {**weights, "embeddings.word_embeddings.weight": torch.ones(20, 8)}
    save_file(wider, file, {"format": "pt"})
    load(f"{title}, another shape, ignore_mismatched_sizes", ignore_mismatched_sizes=True)
    save_file(weights, file, {"format": "pt"})


config = transformers.BertConfig(
    vocab_size=16, hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16
)
transformers.BertModel(config, add_pooling_layer=False).save_pretrained(folder)
weights = load_file(file)
weights["encoder.layer.7.output.dense.bias"] = torch.ones(8)  # of a layer that this model does not have
del weights["encoder.layer.0.attention.self.query.bias"]
save_file(weights, file, {"format": "pt"})
load_both("without ZeRO-3")
settings = {"train_micro_batch_size_per_gpu": 1, "zero_optimization": {"stage": 3}}
alive = HfDeepSpeedConfig(settings)  # transformers keeps a weak reference: the name must live
load_both("with ZeRO-3")
PYTHON
PATH="$folder/venv/bin:$PATH" "$folder/venv/bin/python" "$folder/run.py" "$folder/model" 2>/dev/null | grep -E '^(versions|result)' | tee "$folder/seen"
diff <(grep result "$folder/seen") - <<'SEEN'
result: without ZeRO-3: 1 unexpected_keys, 1 missing_keys, 0 mismatched_keys
result: without ZeRO-3, another shape, ignore_mismatched_sizes: 1 unexpected_keys, 1 missing_keys, 1 mismatched_keys
result: with ZeRO-3: 0 unexpected_keys, 1 missing_keys, 0 mismatched_keys
result: with ZeRO-3, another shape, ignore_mismatched_sizes: RuntimeError, recommends ignore_mismatched_sizes: True
SEEN
