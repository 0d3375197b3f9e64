#!/usr/bin/env bash
# transformers 5.23.0: load_adapter leaves out the magnitudes of a DoRA adapter that peft has saved, without an error.
#
# Expected: `model.load_adapter(folder)` gives what `PeftModel.from_pretrained(model, folder)` gives.
# Seen: peft writes `...lora_magnitude_vector`, which is `...lora_magnitude_vector.default.weight` in the model. peft maps one to the
# other when it loads; transformers, and so sentence-transformers over an adapter's folder, does not, keeps the lengths of the base model's
# rows, and embeds otherwise. With `.weight` at the end of the names in the file both libraries load them.
#
# Versions seen: transformers 5.23.0, peft 0.21.2, torch 2.13.0 (CPU), Python 3.11. Exit status 1: the behaviour has changed.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q torch==2.13.0 transformers==5.23.0 peft==0.21.2
cat >"$folder/run.py" <<'PYTHON'
import sys

import peft
import torch
import transformers
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import AutoModel, BertConfig, BertModel

print("version: transformers", transformers.__version__, "peft", peft.__version__)
place = sys.argv[1]
torch.manual_seed(0)
sizes = {"vocab_size": 50, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64}
BertModel(BertConfig(**sizes)).save_pretrained(f"{place}/base")
settings = LoraConfig(r=4, target_modules=["query", "value"], use_dora=True, init_lora_weights=False)
trained = get_peft_model(AutoModel.from_pretrained(f"{place}/base"), settings).eval()
for name, weight in trained.named_parameters():
    if "magnitude" in name:
        weight.data *= 1.5
trained.save_pretrained(f"{place}/adapter")
ids = torch.tensor([[3, 4, 5, 6]])


@torch.no_grad()
def states(model):
    return model.eval()(input_ids=ids).last_hidden_state


def differences():
    by_transformers = AutoModel.from_pretrained(f"{place}/base")
    by_transformers.load_adapter(f"{place}/adapter")
    by_peft = PeftModel.from_pretrained(AutoModel.from_pretrained(f"{place}/base"), f"{place}/adapter")
    return [float((states(model) - states(trained)).abs().max()) for model in (by_peft, by_transformers)]


as_saved = differences()
print(f"result: as peft saves it: peft differs by {as_saved[0]:.1e}, transformers by {as_saved[1]:.1e}")
file = f"{place}/adapter/adapter_model.safetensors"
weights = {name + ".weight" * name.endswith("magnitude_vector"): weight for name, weight in load_file(file).items()}
save_file(weights, file, {"format": "pt"})
renamed = differences()
print(f"result: with .weight at the end: peft differs by {renamed[0]:.1e}, transformers by {renamed[1]:.1e}")
if not (max(as_saved[0], *renamed) < 1e-6 < 1e-3 < as_saved[1]):
    sys.exit("changed: transformers loads what peft saves, or no longer the other names")
PYTHON
"$folder/venv/bin/python" "$folder/run.py" "$folder"
