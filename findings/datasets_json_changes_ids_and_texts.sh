#!/usr/bin/env bash
# datasets 5.2.0: load_dataset("json") of training rows whose ids are large and whose texts look like dates.
#
# Expected: the values of the file: whole numbers and strings.
# Seen: ids of 2**63 and more become float64, so that two different ids are equal afterwards; a column whose strings look like dates
# becomes a timestamp, so that a text is no string any more. No message. An id written as a string, or a text in another
# form, is kept. Rows of such files are to be read line by line with a JSON parser where ids and texts must be kept.
#
# Versions seen: datasets 5.2.0, pyarrow 26.0.1, Python 3.11. Exit status 1: the behaviour has changed.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q datasets==5.2.0 pyarrow==26.0.1
cat >"$folder/run.py" <<'PYTHON'
import json
import sys

import datasets

print("version: datasets", datasets.__version__)
rows = [{"id": 2**63 + 1, "text": "2021-03-04"}, {"id": 2**63 + 3, "text": "2022-05-06"}]
path = f"{sys.argv[1]}/rows.jsonl"
with open(path, "w") as stream:
    stream.writelines(json.dumps(row) + "\n" for row in rows)
data = datasets.load_dataset("json", data_files=path, split="train", cache_dir=f"{sys.argv[1]}/cache")
for name in ("id", "text"):
    print(f"result: {name}: {data.features[name].dtype}, first value {data[0][name]!r}")
print("result: the two ids are equal:", data[0]["id"] == data[1]["id"])
PYTHON
HF_HUB_OFFLINE=1 "$folder/venv/bin/python" "$folder/run.py" "$folder" 2>/dev/null | tee "$folder/seen"
diff <(grep result "$folder/seen") - <<'SEEN'
result: id: float64, first value 9.223372036854776e+18
result: text: timestamp[s], first value datetime.datetime(2021, 3, 4, 0, 0)
result: the two ids are equal: True
SEEN
