"""`python -m harness.launch [--restarts N] [--remove FILE] -- COMMAND`: a launcher, run for launch.sh.

DeepSpeed's launcher gives its ranks 30 seconds after a SIGTERM, and one after the other; then it reports 1, whatever
they did, and 0 if its second level was killed. This process sends signals to the ranks themselves, reads the statuses
that they leave (`rank_watch.py`) and ends as they did, leaves no process behind, and starts again on request.

    SIGTERM, SIGUSR1   the ranks finish their step, save and end; several are as one, as schedulers send both
    SIGINT, SIGHUP     the ranks end at once
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from harness.process import statuses
from harness.process.parent import adopt_orphans, end_with_parent
from harness.process.rank_watch import STATUS_FOLDER, read_statuses, running_watchers
from harness.process.stop_request import STOP_FILE

_REPEAT_SECONDS = 2.0  # a rank that is still starting does not hear a signal yet
_SECONDS_TO_END = 5.0
_SECONDS_BEFORE_RESTART = 3.0
_HOSTFILE = ("-H", "--hostfile")
_STARTS_ELSEWHERE = ("--force_multi", "--launcher")
_HOSTFILE_OF_DEEPSPEED = Path("/job/hostfile")  # which it takes without being told
_HEARD = (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT, signal.SIGHUP)


def main(arguments: list[str]) -> int:
    """Run COMMAND, again after a stop or a crash, at most N times. Returns the exit status."""
    split = arguments.index("--")
    options, command = _Options.read(arguments[:split]), arguments[split + 1 :]
    try:
        if shutil.which(command[0]) is None:
            _say(f"got no program {command[0]} on PATH, expected that of the active environment; install it there")
            return statuses.MISTAKE
        if sys.platform != "linux":  # no rank has a watcher there
            return statuses.of_process(subprocess.call(command, stdin=subprocess.DEVNULL))
        return _run(command, options.restarts)
    finally:
        for file in options.removed:
            file.unlink(missing_ok=True)


def _run(command: list[str], restarts: int) -> int:
    heard = [number for number in _HEARD if signal.getsignal(number) is not signal.SIG_IGN]
    signal.pthread_sigmask(signal.SIG_BLOCK, [*heard, signal.SIGCHLD])
    adopt_orphans()
    for attempt in range(restarts + 1):
        with tempfile.TemporaryDirectory(prefix="harness-") as folder:
            job = _Job(command, Path(folder), heard)
            status = job.run()
        if job.was_asked or attempt == restarts or not statuses.worth_a_restart(status):
            return status
        _say(f"ended with status {status}; restart {attempt + 1} of {restarts}")
        time.sleep(_SECONDS_BEFORE_RESTART)
    raise AssertionError("the last attempt returns")


@dataclass(frozen=True)
class _Options:
    """restarts: at most so many. removed: files to be removed in the end."""

    restarts: int = 0
    removed: tuple[Path, ...] = ()

    @classmethod
    def read(cls, words: list[str]) -> _Options:
        pairs = list(zip(words[::2], words[1::2], strict=True))
        restarts = [value for name, value in pairs if name == "--restarts"] or ["0"]
        if not restarts[-1].isdecimal():
            _say(f"--restarts: got {restarts[-1]}, expected a number, 0 or more")
            sys.exit(statuses.MISTAKE)
        return cls(int(restarts[-1]), tuple(Path(value) for name, value in pairs if name == "--remove"))


@dataclass
class _Job:
    """One start of the launcher, and all processes below it."""

    command: list[str]
    folder: Path  # where the ranks leave their statuses
    heard: list[signal.Signals]
    was_asked: bool = field(default=False, init=False)  # whether a signal asked this job to stop

    def run(self) -> int:
        """Start the launcher, hand on signals, wait until nothing of it is left. Returns the honest status."""
        process = subprocess.Popen(
            self.command,
            stdin=subprocess.DEVNULL,
            env={**os.environ, STATUS_FOLDER: str(self.folder)},
            process_group=0,
            preexec_fn=self._prepare,
        )
        try:
            status = statuses.of_process(self._wait(process))
        finally:
            self._end_rest(process.pid)
        found = read_statuses(self.folder)
        if status == statuses.DONE and not found and _starts_ranks_here(self.command):
            _say("the launcher ended before any rank had started, as it does when a signal ends its second level")
            return statuses.UNEXPECTED
        if status == statuses.DONE and not found and (unfinished := _unfinished_run(self.command)) is not None:
            # DeepSpeed reports 0 if a signal ends pdsh, which has started all ranks.
            _say(f"the launcher ended with status 0, but the run in {unfinished} has not finished")
            return statuses.CONTINUE if self.was_asked else statuses.UNEXPECTED
        of_ranks = statuses.of_ranks(found)
        return status if of_ranks == statuses.DONE else of_ranks

    def _prepare(self) -> None:
        """In the new process, before it is the launcher."""
        end_with_parent(signal.SIGTERM)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [*self.heard, signal.SIGCHLD])

    def _wait(self, process: subprocess.Popen[bytes]) -> int:
        # Ranks that were asked to stop save, though the launcher may have died of the same signal.
        while process.poll() is None or running_watchers(self.folder):
            received = signal.sigtimedwait([*self.heard, signal.SIGCHLD], _REPEAT_SECONDS)
            number = None if received is None else received.si_signo
            if number in (signal.SIGINT, signal.SIGHUP):
                return self._interrupt(process)
            if number in (signal.SIGTERM, signal.SIGUSR1):
                if not self.was_asked:
                    _say(f"got {signal.Signals(number).name}: the ranks finish their step, save and end")
                self.was_asked = True
            if self.was_asked and number != signal.SIGCHLD:
                self._send_to_ranks(signal.SIGUSR1)
                self._ask_other_hosts()
            if process.poll() is not None:
                _reap()
        return process.returncode

    def _ask_other_hosts(self) -> None:
        """Leave the file that rank 0 looks for after each step: signals do not reach processes that ssh has started."""
        folder = run_folder(self.command) if any(word.startswith(_HOSTFILE) for word in self.command) else None
        if folder is not None and folder.is_dir():
            (folder / STOP_FILE).touch()

    def _interrupt(self, process: subprocess.Popen[bytes]) -> int:
        """End everything at once. Whole files are safe whenever a process ends."""
        self.was_asked = True
        self._send_to_ranks(signal.SIGUSR2)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(_SECONDS_TO_END)
        _kill_group(process.pid)
        for file in self.folder.iterdir():
            file.unlink()  # how the ranks ended is no news
        process.wait()
        if sys.stdout.isatty():
            print("\x1b[?25h")  # shows the cursor again
        return -signal.SIGINT

    def _end_rest(self, group: int) -> None:
        """Wait until all processes below have ended: those of a launcher that was killed end by themselves."""
        deadline = time.monotonic() + _SECONDS_TO_END
        while (rest := psutil.Process().children(recursive=True)) and time.monotonic() < deadline:
            _reap()
            time.sleep(0.05)
        if rest:
            _kill_group(group)
        _reap()

    def _send_to_ranks(self, number: int) -> None:
        """To the ranks of this host alone: launchers die of signals, and then could not tell how their ranks ended."""
        for watcher in running_watchers(self.folder):
            with contextlib.suppress(ProcessLookupError):
                os.kill(watcher, number)


def _starts_ranks_here(command: list[str]) -> bool:
    """Whether the launcher starts ranks on this host, as far as can be told: not if ssh or the like starts all."""
    elsewhere = (
        any(word.startswith((*_HOSTFILE, *_STARTS_ELSEWHERE)) for word in command) or _HOSTFILE_OF_DEEPSPEED.exists()
    )
    return not ({"-h", "--help"} & set(command)) and ("--no_ssh" in command or not elsewhere)


def run_folder(command: list[str]) -> Path | None:
    """The run folder of `... --module harness train RECIPE [--set KEY=VALUE ...] [--output DIR] ...`; None: no such."""
    from harness.config import load_recipe

    try:
        recipe, *words = command[command.index("train") + 1 :]
        words = [part for word in words for part in (word.split("=", 1) if word.startswith("--") else [word])]
        options = list(zip(words, [*words[1:], ""], strict=True))
        changes = [value for name, value in options if name == "--set"]
        output = [value for name, value in options if name == "--output"]
        return Path(output[-1] if output else load_recipe(recipe, changes).config.output)
    except ValueError:
        return None


def _unfinished_run(command: list[str]) -> Path | None:
    """The run folder, if its run.json can be seen from here and tells of a run that has not reached its end."""
    folder = run_folder(command)
    try:
        facts = None if folder is None else json.loads((folder / "run.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return folder if isinstance(facts, dict) and not facts.get("finished") else None


def _kill_group(group: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(group, signal.SIGKILL)


def _reap() -> None:
    """Take the status of every orphan that has ended, so that none stays as a zombie."""
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


def _say(text: str) -> None:
    print(f"launch.sh: {text}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
