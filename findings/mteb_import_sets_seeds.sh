#!/usr/bin/env bash
# mteb 2.26.24: importing it, and making one of its tasks, sets the seeds of random, numpy and torch for the whole process.
#
# Expected: a library that scores models draws from generators of its own, and leaves those of the process alone.
# Seen: every task calls random.seed(42), np.random.seed(42) and, if torch is imported, torch.manual_seed(42) when it is made, and
# the import makes tasks. A training that imports mteb at its first evaluation, or makes a task at each, draws the same masks and
# orders again after each of them.
#
# Versions seen: mteb 2.26.24, torch 2.13.0 (CPU), Python 3.11. Exit status 1: the behaviour has changed.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q torch==2.13.0 mteb==2.26.24
cat >"$folder/run.py" <<'PYTHON'
import random
import sys
from importlib.metadata import version

import numpy as np
import torch

print("version: mteb", version("mteb"))
draw = {"random": random.random, "numpy": np.random.random, "torch": lambda: float(torch.rand(()))}
random.seed(1), np.random.seed(1), torch.manual_seed(1)
import mteb  # noqa: E402

first = {name: function() for name, function in draw.items()}
random.seed(2), np.random.seed(2), torch.manual_seed(2)
mteb.get_task("STS12")
second = {name: function() for name, function in draw.items()}
for name in draw:
    print(f"result: {name}: {first[name]:.6f} after the import, {second[name]:.6f} after a task, whatever the seed was")
if any(first[name] != second[name] for name in draw):
    sys.exit("changed: what was seeded before is drawn from again")
PYTHON
"$folder/venv/bin/python" "$folder/run.py"
