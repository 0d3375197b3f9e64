#!/usr/bin/env bash
# ./launch.sh                          the main job: recipe demo, one rank per GPU (without a GPU: 2 ranks on the CPU)
# ./launch.sh test [pytest arguments]  the tests, in a process per core, at most 4 (-n 0: in one)
# ./launch.sh RECIPE [--set KEY=VALUE ...] [--data-root DIR] [--output DIR] [--verbose] [--restarts N] [--check]
#             [--ranks N] [launcher flags: --hostfile F ...]   --restarts: start again, at most N times, after a stop or a crash
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
[[ ${1:-} == -h || ${1:-} == --help ]] && exec sed -n '2,5s/^# //p' "${BASH_SOURCE[0]}"
job=demo extras=demo
[[ ${1:--} == -* ]] || { job=$1 && shift; }
[[ $job == test ]] && extras=demo,test

# 1. The environment: the active one, or .venv in this folder; installed anew only when its pins have changed.
venv=${VIRTUAL_ENV:-$root/.venv}
if [[ ! -x $venv/bin/python ]]; then
  for python in python3 python3.{14,13,12,11} ""; do
    "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && break
  done
  [[ $python ]] || { echo "launch.sh: got no python3 of version 3.11 or later on PATH, expected one" >&2; exit 2; }
  "$python" -m venv "$venv"
fi
export VIRTUAL_ENV=$venv PATH=$venv/bin:$PATH
pins=$(cat "$root/pyproject.toml" "$root/constraints.txt" <(echo "$root") | sha256sum | cut -d' ' -f1)
if [[ "$(cat "$venv/.harness-installed" 2>/dev/null)" != "$pins $extras"* ]]; then # demo,test holds demo
  echo "Installing into $venv: one to five minutes, about 3 GB (more with a GPU). Happens once." >&2
  python -m pip install -qq --disable-pip-version-check -c "$root/constraints.txt" -e "$root[$extras]"
  echo "$pins $extras" >"$venv/.harness-installed"
fi

# 2. The tests, or the run: one rank per GPU, else two that share the cores. Which argument goes to the harness and which to
# DeepSpeed's launcher, and what other hosts get: harness/hosts/launch_command.py.
[[ $job == test ]] && cd "$root" && exec python -m pytest -n logical --maxprocesses 4 "$@"
exec python -m harness launch "$job" "$@"
