#!/usr/bin/env bash
# A config.json written by transformers 5.23.0, read by transformers 4.57.6: the base of the rotary positions.
#
# Expected: the same base, or an error.
# Seen: 5.23.0 writes the base inside "rope_parameters" only; 4.57.6 does not read that key and takes its default, 10,000,
# without a message, so that the same weights give other embeddings. A top-level "rope_theta" beside it is read by both.
# Many servers still pin transformers 4: a folder for them needs both keys.
#
# Versions seen: transformers 5.23.0 and 4.57.6, Python 3.11. Exit status 1: the behaviour has changed.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/new"
python3 -m venv "$folder/old"
"$folder/new/bin/pip" install -q transformers==5.23.0
"$folder/old/bin/pip" install -q transformers==4.57.6
cat >"$folder/write.py" <<'PYTHON'
import json
import sys

from transformers import Qwen3Config

Qwen3Config(rope_parameters={"rope_type": "default", "rope_theta": 1_000_000.0}).save_pretrained(f"{sys.argv[1]}/one")
tree = json.load(open(f"{sys.argv[1]}/one/config.json"))
print("result: keys written:", sorted(key for key in tree if key.startswith("rope")), tree["rope_parameters"]["rope_theta"])
Qwen3Config(rope_parameters={"rope_type": "default", "rope_theta": 1_000_000.0}).save_pretrained(f"{sys.argv[1]}/both")
with open(f"{sys.argv[1]}/both/config.json", "w") as stream:
    json.dump({**tree, "rope_theta": 1_000_000.0}, stream)
PYTHON
cat >"$folder/read.py" <<'PYTHON'
import sys

import transformers

for name in ("one", "both"):
    config = transformers.AutoConfig.from_pretrained(f"{sys.argv[1]}/{name}")
    base = getattr(config, "rope_theta", None) or config.rope_parameters["rope_theta"]
    print(f"result: {transformers.__version__} reads folder {name}: base {base:.0f}")
PYTHON
{
  "$folder/new/bin/python" "$folder/write.py" "$folder"
  "$folder/new/bin/python" "$folder/read.py" "$folder"
  "$folder/old/bin/python" "$folder/read.py" "$folder"
} 2>/dev/null | tee "$folder/seen"
diff <(grep result "$folder/seen") - <<'SEEN'
result: keys written: ['rope_parameters'] 1000000.0
result: 5.23.0 reads folder one: base 1000000
result: 5.23.0 reads folder both: base 1000000
result: 4.57.6 reads folder one: base 10000
result: 4.57.6 reads folder both: base 1000000
SEEN
