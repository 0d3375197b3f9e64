#!/usr/bin/env bash
# torch 2.13.0: which triton its builds ask for.
#
# Expected: a version of torch asks for the same packages whatever it computes on, or at least for a range of versions of triton, so that a
# set of pins that was tried on a machine without a GPU installs on one with a GPU.
# Seen: the Linux build on PyPI (CUDA) requires triton==3.7.1 exactly, though 3.9.0 is there. The CPU build asks for no triton, so that any other
# installs beside it. Pins that were frozen beside the CPU build with triton 3.9.0 cannot be installed on a machine with a GPU.
#
# Only metadata is read; nothing is installed but pip itself.
#
# Versions seen: torch 2.13.0, triton 3.7.1 and 3.9.0, pip 25. Exit status 1: the behaviour has changed.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
cat >"$folder/run.py" <<'PYTHON'
import json
import os
import subprocess
import sys

# Local wheels and extra settings would put another build before that of PyPI.
environment = {name: value for name, value in os.environ.items() if name != "PIP_FIND_LINKS"} | {"PIP_CONFIG_FILE": os.devnull}
target = ["--platform", "manylinux_2_28_x86_64", "--python-version", "3.12", "--only-binary", ":all:", "--target", sys.argv[1]]


def pip(*wanted, only_metadata=()):
    command = [sys.executable, "-m", "pip", "install", "-q", "--dry-run", "--ignore-installed", *target, *only_metadata, *wanted]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


answer = pip("torch==2.13.0", only_metadata=("--no-deps", "--report", "-"))
(torch,) = json.loads(answer.stdout[answer.stdout.index("{") :])["install"]
needs = [need for need in torch["metadata"]["requires_dist"] if need.startswith("triton")]
print("version: torch", torch["metadata"]["version"])
print("result: the Linux build of PyPI requires", needs)
newer = pip("triton==3.9.0", only_metadata=("--no-deps",))
print("result: triton 3.9.0 can be had:", newer.returncode == 0)
if not (len(needs) == 1 and needs[0].startswith("triton==3.7.1") and newer.returncode == 0):
    sys.exit(f"changed: {needs}, {newer.stderr[-300:]}")
PYTHON
"$folder/venv/bin/python" "$folder/run.py" "$folder/target"
