#!/usr/bin/env bash
# safetensors 0.8.0: the mode of a file that save_file writes.
#
# Expected: what the umask leaves, as for every other file of the process (644 with umask 022, 660 with 007).
# Seen: 600 always, and a file of mode 644 or 664 that is written again is 600 afterwards. A model saved to a shared folder
# (transformers' save_pretrained, sentence-transformers) has a config.json that a colleague can read and weights that they cannot.
# Set the mode after saving, for example to that of a file beside it that Python has written.
#
# Versions seen: safetensors 0.8.0, numpy 2.4.6, Python 3.11. Exit status 1: the behaviour has changed.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q safetensors==0.8.0 numpy==2.4.6
cat >"$folder/run.py" <<'PYTHON'
import os
import stat
import sys
from pathlib import Path

import numpy as np
import safetensors
from safetensors.numpy import save_file

print("version: safetensors", safetensors.__version__)
folder = Path(sys.argv[1])
for mask in (0o022, 0o007):
    os.umask(mask)
    (folder / "text").write_text("")
    (folder / "again").write_text("")
    for name in ("new", "again"):
        save_file({"weight": np.zeros(3)}, folder / name)
    modes = {name: oct(stat.S_IMODE((folder / name).stat().st_mode))[2:] for name in ("text", "new", "again")}
    print(f"result: umask {mask:03o}: {modes}")
    for name in modes:
        (folder / name).unlink()
PYTHON
mkdir "$folder/out"
"$folder/venv/bin/python" "$folder/run.py" "$folder/out" | tee "$folder/seen"
diff <(grep result "$folder/seen") - <<'SEEN'
result: umask 022: {'text': '644', 'new': '600', 'again': '600'}
result: umask 007: {'text': '660', 'new': '600', 'again': '600'}
SEEN
