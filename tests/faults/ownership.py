"""Faults of ownership: foreign files, two commands in a folder, lost processes, signals, records (A1 A4 A5 A9 A11)."""

from __future__ import annotations

import hashlib
import json
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil

from tests.faults.fault import Fault, Seen
from tests.faults.started import NOTHING, environment, overrides, recipe_in
from tests.ranks import free_port

MANY_STEPS = ("training.steps=40", "checkpoint.every=10", "evaluation.every=0")


def harness(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "harness", *arguments]
    return subprocess.run(command, env=environment(), capture_output=True, text=True, timeout=300, check=False)


def train(folder: Path, *changes: str) -> subprocess.CompletedProcess[str]:
    return harness("train", str(folder / "tiny.yaml"), *overrides(changes))


class Launched:
    """Two ranks, started as launch.sh does, whose output goes to a file."""

    def __init__(self, folder: Path, *changes: str, restarts: int = 0) -> None:
        self.run, self.log = folder / "run", folder / "log"
        command = [sys.executable, "-m", "harness.launch", "--restarts", str(restarts), "--", "deepspeed"]
        command += ["--log_level", "critical", "--num_accelerators", "2", "--master_port", str(free_port())]
        command += ["--module", "harness", "train", str(folder / "tiny.yaml"), *overrides(changes)]
        with self.log.open("w") as log:
            self.process = subprocess.Popen(command, env=environment(), stdout=log, stderr=log)

    def wait_for_step(self, step: int) -> None:
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline and self.process.poll() is None:
            if (self.run / "metrics.jsonl").exists() and len(rows(self.run)) >= step:
                return
            time.sleep(0.02)

    def below(self, *words: str) -> list[psutil.Process]:
        """The processes of this job whose command line has all these words, parents first."""
        every = psutil.Process(self.process.pid).children(recursive=True)
        return [process for process in every if all(word in " ".join(process.cmdline()) for word in words)]

    def end(self) -> tuple[int, str]:
        """The exit status, and what was printed."""
        return self.process.wait(timeout=180), self.log.read_text()


def rows(run: Path) -> list[dict]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def losses(run: Path) -> list[float]:
    return [row["loss"] for row in rows(run)]


def weights(run: Path) -> str:
    return hashlib.sha256((run / "model" / "model.safetensors").read_bytes()).hexdigest()


def line_with(text: str, words: str) -> str:
    return next((line for line in text.splitlines() if words in line), text.strip().splitlines()[-1] if text else "")


def seen(status: int, text: str, words: str, expected_status: int, lost: str, is_right: bool = True) -> Seen:
    message = line_with(text, words)
    return Seen(status, message, lost, status == expected_status and words in message and lost == NOTHING and is_right)


def foreign_files(folder: Path) -> Seen:
    recipe_in(folder)
    for name in ("model", "banks", "checkpoints"):
        (folder / "run" / name).mkdir(parents=True)
        (folder / "run" / name / "thesis").write_text("years of work")
    done = train(folder, "checkpoint.resume=never")
    left = [name for name in ("model", "banks", "checkpoints") if (folder / "run" / name / "thesis").is_file()]
    return seen(done.returncode, done.stderr, "is not a run folder", 2, NOTHING if len(left) == 3 else "foreign files")


def foreign_bank(folder: Path) -> Seen:
    recipe_in(folder)
    out = folder / "out"
    (out / "work").mkdir(parents=True)
    (out / "work" / "thesis").write_text("years of work")
    done = harness("mine", str(folder / "model"), "--queries", str(folder / "retrieval.jsonl"), "--out", str(out))
    lost = NOTHING if [path.name for path in out.iterdir()] == ["work"] else "the order of a foreign folder"
    return seen(done.returncode, done.stderr, "is not an unfinished bank", 2, lost)


def name_of_a_folder_above(folder: Path) -> Seen:
    recipe_in(folder)
    done = train(folder, "name=..")
    return seen(done.returncode, done.stderr, "name: got the text", 2, NOTHING)


def finished_without_checkpoints(folder: Path) -> Seen:
    recipe_in(folder)
    train(folder, "checkpoint.every=0")
    before = weights(folder / "run")
    done = train(folder, "checkpoint.every=0", "training.steps=8")
    lost = NOTHING if weights(folder / "run") == before else "the finished model"
    return seen(done.returncode, done.stderr, "set checkpoint.resume: never", 2, lost)


def two_commands(folder: Path) -> Seen:
    recipe_in(folder)
    first = Launched(folder, "training.steps=4000", "checkpoint.every=0", "evaluation.every=0")
    first.wait_for_step(2)
    done = train(folder, "training.steps=4000", "checkpoint.every=0", "evaluation.every=0")
    first.process.send_signal(signal.SIGTERM)
    status, _ = first.end()
    steps = [row["step"] for row in rows(folder / "run")]
    lost = NOTHING if steps == list(range(1, len(steps) + 1)) and status == 75 else "the order of the steps"
    return seen(done.returncode, done.stderr, "in use by host", 2, lost)


def killed(who: str) -> Callable[[Path], Seen]:
    """who: a part of the command line of the process that is killed at step 13, after the checkpoint of step 10."""

    def run(folder: Path) -> Seen:
        recipe_in(folder)
        job = Launched(folder, *MANY_STEPS)
        job.wait_for_step(13)
        below = psutil.Process(job.process.pid).children(recursive=True)
        job.below(*who.split())[-1 if "local_rank" in who else 0].kill()
        started = time.monotonic()
        status, text = job.end()
        took = time.monotonic() - started
        left = [process for process in below if process.is_running() and process.status() != psutil.STATUS_ZOMBIE]
        words, longest = ("rank 1 (host", 10) if "local_rank" in who else ("has ended, so its ranks end", 40)
        said = sum(words in line for line in text.splitlines()) == 1
        lost = f"{len(left)} processes are left" if left else NOTHING
        return seen(status, text, words, 137, lost, said and took < longest)

    return run


def killed_launch_sh(folder: Path) -> Seen:
    recipe_in(folder)
    job = Launched(folder, *MANY_STEPS)
    job.wait_for_step(13)
    below = psutil.Process(job.process.pid).children(recursive=True)
    job.process.kill()
    _, left = psutil.wait_procs(below, timeout=10)
    status, text = job.end()
    return seen(128 - status, text, "has ended, so its ranks end", 137, f"{len(left)} are left" if left else NOTHING)


def asked_to_stop(number: signal.Signals) -> Callable[[Path], Seen]:
    def run(folder: Path) -> Seen:
        recipe_in(folder)
        undisturbed = Launched(folder, *MANY_STEPS)
        undisturbed.end()
        expected = losses(folder / "run"), weights(folder / "run")
        shutil.rmtree(folder / "run")
        job = Launched(folder, *MANY_STEPS)
        job.wait_for_step(13)
        job.process.send_signal(number)
        status, text = job.end()
        stopped_after = len(rows(folder / "run"))
        Launched(folder, *MANY_STEPS).end()
        resumed_from = json.loads((folder / "run" / "run.json").read_text())["resumed_from"]
        same = (losses(folder / "run"), weights(folder / "run")) == expected
        lost = NOTHING if same and resumed_from == stopped_after < 40 else f"{stopped_after - resumed_from} steps"
        return seen(status, text, f"step {stopped_after} is saved in", 75, lost)

    return run


def restarted(folder: Path) -> Seen:
    recipe_in(folder)
    job = Launched(folder, *MANY_STEPS, restarts=2)
    job.wait_for_step(13)
    job.below("local_rank=1")[-1].kill()
    status, text = job.end()
    steps = [row["step"] for row in rows(folder / "run")]
    return seen(status, text, "restart 1 of 2", 0, NOTHING if steps == list(range(1, 41)) else "steps")


def continued_after(change: Callable[[Path], None], words: str, *changes: str) -> Callable[[Path], Seen]:
    """A finished run of six steps is changed and continued to eight, with these settings."""

    def run(folder: Path) -> Seen:
        recipe_in(folder)
        train(folder)
        change(folder / "run")
        done = train(folder, "training.steps=8", *changes)
        return seen(done.returncode, done.stderr, words, 0, NOTHING)

    return run


def cut_metrics(run: Path) -> None:
    lines = (run / "metrics.jsonl").read_text().splitlines(keepends=True)
    (run / "metrics.jsonl").write_text("".join(lines[:3]))


def model_is_gone(folder: Path) -> Seen:
    recipe_in(folder)
    train(folder)
    before = weights(folder / "run")
    shutil.rmtree(folder / "run" / "model")
    done = train(folder)
    exists = (folder / "run" / "model" / "model.safetensors").is_file()
    lost = NOTHING if exists and weights(folder / "run") == before else "the model"
    return seen(done.returncode, done.stdout, "is gone: making it again", 0, lost)


ROWS: list[Fault] = [
    Fault("A1", "a run is started in a folder of foreign model/, banks/, checkpoints/, afresh", foreign_files),
    Fault("A1", "mine writes into a folder of foreign files", foreign_bank),
    Fault("A1", "a run is called ..", name_of_a_folder_above),
    Fault("A1", "more steps of a finished run without checkpoints", finished_without_checkpoints),
    Fault("A4", "the same command a second time while the first trains", two_commands),
    Fault("A4", "SIGKILL to deepspeed, the launcher's first level", killed("bin/deepspeed")),
    Fault("A4", "SIGKILL to deepspeed.launcher.launch, its second level", killed("deepspeed.launcher.launch")),
    Fault("A4", "SIGKILL to launch.sh itself", killed_launch_sh),
    Fault("A5", "SIGTERM to launch.sh at step 13, then the same command", asked_to_stop(signal.SIGTERM)),
    Fault("A5", "SIGUSR1 to launch.sh at step 13, then the same command", asked_to_stop(signal.SIGUSR1)),
    Fault("A5", "SIGKILL to rank 1 at step 13 with --restarts 2", restarted),
    Fault("A9", "SIGKILL to rank 1 at step 13", killed("harness local_rank=1")),
    Fault("A11", "metrics.jsonl is cut, then more steps", continued_after(cut_metrics, "got no rows of 3 of the 6")),
    Fault(
        "A11",
        "metrics.jsonl is deleted, then more steps",
        continued_after(lambda run: (run / "metrics.jsonl").unlink(), "got no rows of 6 of the 6"),
    ),
    Fault(
        "A11",
        "another training.micro_batch_tokens, with dropout",
        continued_after(lambda run: None, "dropout draws other masks", "training.micro_batch_tokens=256"),
    ),
    Fault("A11", "model/ of a finished run is deleted", model_is_gone),
]
