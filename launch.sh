#!/usr/bin/env bash
# ./launch.sh                          the main job: recipe demo, one rank per GPU (without a GPU: 2 ranks on the CPU)
# ./launch.sh test [pytest arguments]  the tests, in a process per core, at most 4 (-n 0: in one)
# ./launch.sh RECIPE [--set KEY=VALUE ...] [--data-root DIR] [--output DIR] [--verbose] [--restarts N] [--check]
#             [launcher flags: --hostfile F ...]   --restarts: start again, at most N times, after a stop or a crash
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

# 2. The hardware: a rank per GPU, else two ranks that share the cores. CUDA_VISIBLE_DEVICES picks GPUs, if set.
num_gpus=$({ nvidia-smi -L 2>/dev/null || true; } | grep -c '^GPU' || true)
[[ ${CUDA_VISIBLE_DEVICES--} =~ ^(-1)?$ ]] && num_gpus=0
[[ $num_gpus != 0 ]] || export DS_ACCELERATOR=cpu
[[ $job == test ]] && cd "$root" && exec python -m pytest -n logical --maxprocesses 4 "$@"
ranks=(--num_accelerators "$((num_gpus ? num_gpus : 2))")
[[ $num_gpus != 0 && ${CUDA_VISIBLE_DEVICES:-} ]] && ranks=()
[[ $num_gpus != 0 ]] || export OMP_NUM_THREADS=${OMP_NUM_THREADS:-$(($(nproc) > 1 ? $(nproc) / 2 : 1))}
# 3. Who gets which argument: the harness its own, DeepSpeed's launcher all others.
ours=() flags=() quiet=(--log_level critical) command=train around=()
while (($#)); do
  case $1 in
    --set | --data-root | --output) ours+=("$1" "${2?"expected a value after $1"}") && shift ;;
    --set=* | --data-root=* | --output=*) ours+=("$1") ;;
    --restarts) around=("$1" "${2?"expected a number after $1"}") && shift ;;
    --restarts=*) around=(--restarts "${1#*=}") ;;
    --verbose) ours+=("$1") && quiet=() ;;
    --check) command=check ;;
    -H | --hostfile* | -i | --include* | -e | --exclude* | --num_*) ranks=() && flags+=("$1") ;;
    *) flags+=("$1") ;;
  esac
  shift
done
if [[ " ${flags[*]} " =~ \ (-H|--hostfile)[=\ ] ]]; then # other hosts are checked, and get the variables in this file
  export HARNESS_USER_ENV_FILE=${DS_ENV_FILE:-} DS_ENV_FILE && DS_ENV_FILE=$(mktemp) && around+=(--remove "$DS_ENV_FILE")
  export PDSH_SSH_ARGS_APPEND="${PDSH_SSH_ARGS_APPEND:-} -oServerAliveInterval=10 -oServerAliveCountMax=3" # a lost host ends it
  flags+=($(python -m harness.hosts.hostfile "$DS_ENV_FILE" "${flags[@]}")) || { rm -f "$DS_ENV_FILE" && exit 2; }
fi
# 4. A process that hands signals to the ranks, tells how they ended, and starts again: see harness/launch.py.
exec python -m harness.launch "${around[@]}" -- \
  deepspeed "${quiet[@]}" "${ranks[@]}" "${flags[@]}" --module harness "$command" "$job" "${ours[@]}"
