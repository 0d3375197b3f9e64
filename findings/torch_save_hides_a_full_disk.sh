#!/usr/bin/env bash
# torch 2.13.0: torch.save on a full disk.
#
# Expected: OSError with errno ENOSPC, "No space left on device", as from every other writer (numpy, and torch's older format).
# Seen: in the default (zip) format RuntimeError "... inline_container.cc ... unexpected pos 704 vs 598", without errno and
# without the word disk; only its __context__ is an error of iostream. Code that catches OSError, or looks for "No space left",
# takes a full disk for a bug in the tensors. Look for "unexpected pos" and "PytorchStreamWriter failed writing" as well.
#
# Versions seen: torch 2.13.0 (CPU), numpy 2.4.6, Python 3.11. Exit status 1: the behaviour has changed.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q torch==2.13.0 numpy==2.4.6
cat >"$folder/run.py" <<'PYTHON'
import errno

import numpy as np
import torch

print("version: torch", torch.__version__)
values = torch.zeros(1_000_000)
for name, save in (
    ("numpy", lambda file: np.save(file, values.numpy())),
    ("torch, older format", lambda file: torch.save(values, file, _use_new_zipfile_serialization=False)),
    ("torch", lambda file: torch.save(values, file)),
):
    try:  # a device on which every write fails as on a full disk
        with open("/dev/full", "wb") as stream:
            save("/dev/full" if name == "torch" else stream)
        print(f"result: {name}: saved")
    except Exception as error:
        known = isinstance(error, OSError) and error.errno == errno.ENOSPC
        said = "unexpected pos" in str(error)
        print(f"result: {name}: {type(error).__name__}, errno ENOSPC: {known}, 'unexpected pos': {said}")
PYTHON
"$folder/venv/bin/python" "$folder/run.py" | tee "$folder/seen"
diff <(grep result "$folder/seen") - <<'SEEN'
result: numpy: OSError, errno ENOSPC: True, 'unexpected pos': False
result: torch, older format: OSError, errno ENOSPC: True, 'unexpected pos': False
result: torch: RuntimeError, errno ENOSPC: False, 'unexpected pos': True
SEEN
