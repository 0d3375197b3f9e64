#!/usr/bin/env bash
# DeepSpeed 0.19.8: a misspelt key at the top of its JSON.
#
# Expected: refused, as an unknown key inside "zero_optimization" is (pydantic's ValidationError).
# Seen: accepted without a word, and the default is used. The default of gradient_clipping is 1.0, so that
# {"gradient_cliping": 5.0} trains with gradients clipped at 1.0, and a JSON that says nothing does, too.
# Our own reader of ds_configs/ refuses every key that it does not know.
#
# Versions seen: deepspeed 0.19.8, torch 2.13.0 (CPU), numpy 2.4.6, Python 3.11. Exit status 1: the behaviour has changed.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q torch==2.13.0 deepspeed==0.19.8 numpy==2.4.6 ninja==1.13.2
cat >"$folder/run.py" <<'PYTHON'
import os

os.environ["DS_ACCELERATOR"] = "cpu"
import deepspeed
from deepspeed.runtime.config import DeepSpeedConfig

print("version: deepspeed", deepspeed.__version__)
for name, extra in (
    ("nothing", {}),
    ("misspelt at the top", {"gradient_cliping": 5.0, "no_such_key": {"enabled": True}}),
    ("unknown in zero_optimization", {"zero_optimization": {"stage": 1, "no_such_key": 1}}),
):
    try:
        config = DeepSpeedConfig({"train_batch_size": 1, **extra})
        print(f"result: {name}: accepted, gradient_clipping {config.gradient_clipping}")
    except Exception as error:
        print(f"result: {name}: {type(error).__name__}")
PYTHON
PATH="$folder/venv/bin:$PATH" "$folder/venv/bin/python" "$folder/run.py" 2>/dev/null | grep -E '^(version|result)' | tee "$folder/seen"
diff <(grep result "$folder/seen") - <<'SEEN'
result: nothing: accepted, gradient_clipping 1.0
result: misspelt at the top: accepted, gradient_clipping 1.0
result: unknown in zero_optimization: ValidationError
SEEN
