#!/usr/bin/env bash
# DeepSpeed 0.19.8: what `deepspeed SCRIPT` reports when the launcher itself is ended.
#
# `deepspeed` starts a second process, `deepspeed.launcher.launch`, which starts the ranks.
#
# Expected: if the second process is killed, `deepspeed` fails and the ranks end; if it gets SIGTERM, as from a scheduler,
# the status is the one with which the ranks ended after they had saved (75 here: "try again").
# Seen: killed, `deepspeed` exits with 0, and its ranks go on without a parent. After SIGTERM the status is 1, whatever the ranks said.
# `result.returncode > 0` in launcher/runner.py passes over statuses of signals, which Python counts below 0.
# launch.sh of this project takes the status from the ranks themselves, and they end with their launcher.
#
# Versions seen: deepspeed 0.19.8, torch 2.13.0 (CPU), Python 3.11. Exit status 1: the behaviour has changed.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q torch==2.13.0 deepspeed==0.19.8 numpy==2.4.6 ninja==1.13.2
cat >"$folder/rank.py" <<'PYTHON'
import os
import signal
import sys
import time

signal.signal(signal.SIGTERM, lambda *_: sys.exit(75))  # saves, and says that it can be continued
with open(sys.argv[-1], "w") as file:
    file.write(f"{os.getpid()} {os.getppid()}\n")
time.sleep(20)
PYTHON
export PATH="$folder/venv/bin:$PATH" DS_ACCELERATOR=cpu
echo "version: deepspeed $(pip list 2>/dev/null | awk '$1 == "deepspeed" {print $2}')" | tee "$folder/seen"
for signal in KILL TERM; do
  rm -f "$folder/pids"
  deepspeed --log_level critical --num_accelerators 1 "$folder/rank.py" "$folder/pids" 2>/dev/null &
  launcher=$!
  until [[ -s $folder/pids ]]; do sleep 0.1; done
  read -r rank second <"$folder/pids"
  kill -"$signal" "$second"
  status=0 && wait "$launcher" || status=$?
  state="has ended" && kill -0 "$rank" 2>/dev/null && state="goes on"
  echo "result: SIG$signal to the second process: deepspeed exits with $status, the rank $state" | tee -a "$folder/seen"
  kill -KILL "$rank" 2>/dev/null || true
done
diff <(grep result "$folder/seen") - <<'SEEN'
result: SIGKILL to the second process: deepspeed exits with 0, the rank goes on
result: SIGTERM to the second process: deepspeed exits with 1, the rank has ended
SEEN
