"""Which argument of `harness launch` goes where: to the harness, to DeepSpeed's launcher, or round both of them."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

from harness.process.launch_words import launch_words, num_gpus

_OURS = ("--set", "--data-root", "--output")
_CHOOSE_RANKS = (
    "-H",
    "--hostfile",
    "-i",
    "--include",
    "-e",
    "--exclude",
    "--num_nodes",
    "--num_gpus",
    "--num_accelerators",
)
_SSH = "-oServerAliveInterval=10 -oServerAliveCountMax=3"  # a lost host ends it


def launch_command(
    arguments: list[str], ranks: int | None, restarts: int, environment: Mapping[str, str], *, is_check: bool = False
) -> tuple[list[str], dict[str, str]]:
    """(the words of the command that trains, variables to set for it).

    arguments: the recipe, then options of `harness train` and flags of DeepSpeed's launcher. ranks: None: one per GPU.

    Raises:
        ValueError: an option without its value, `ranks` beside a flag that chooses ranks, or hosts that cannot be used.
    """
    ours, flags = _divided(arguments)
    chosen = any(flag.partition("=")[0] in _CHOOSE_RANKS for flag in flags)
    if chosen and ranks is not None:
        raise ValueError(f"--ranks: got {ranks} beside {flags[0]}, expected one of them")
    gpus = num_gpus(environment)
    picked = gpus > 0 and bool(environment.get("CUDA_VISIBLE_DEVICES"))
    count = None if chosen or (picked and ranks is None) else ranks or gpus or 2
    command = "check" if is_check else "train"
    words, variables = launch_words(ours, count, environment, command, flags)
    around = ["--restarts", str(restarts)] if restarts else []
    if any(flag.partition("=")[0] in ("-H", "--hostfile") for flag in flags):
        more, file = _with_hosts(words, flags, environment, variables)
        words, around = more, [*around, "--remove", file]
    split = words.index("--")
    return [*words[:split], *around, *words[split:]], variables


def _divided(arguments: list[str]) -> tuple[list[str], list[str]]:
    """(arguments of the harness, flags of DeepSpeed's launcher)."""
    recipe, *rest = arguments
    ours, flags = [recipe], list[str]()
    while rest:
        word = rest.pop(0)
        if word in _OURS:
            if not rest:
                raise ValueError(f"{word}: got nothing, expected a value after it")
            ours += [word, rest.pop(0)]
        elif word.partition("=")[0] in _OURS or word == "--verbose":
            ours.append(word)
        else:
            flags.append(word)
    return ours, flags


def _with_hosts(
    words: list[str], flags: list[str], environment: Mapping[str, str], variables: dict[str, str]
) -> tuple[list[str], str]:
    """The words with what `hostfile.py` says of the hosts, and the file with the variables that they get."""
    with tempfile.NamedTemporaryFile(prefix="harness-", suffix=".env", delete=False) as file:
        pass
    variables |= {"HARNESS_USER_ENV_FILE": environment.get("DS_ENV_FILE", ""), "DS_ENV_FILE": file.name}
    variables["PDSH_SSH_ARGS_APPEND"] = f"{environment.get('PDSH_SSH_ARGS_APPEND', '')} {_SSH}".strip()
    checked = [sys.executable, "-m", "harness.hosts.hostfile", file.name, *flags]
    done = subprocess.run(checked, env={**environment, **variables}, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        Path(file.name).unlink()
        raise ValueError(done.stderr.strip())
    sys.stderr.write(done.stderr)
    module = words.index("--module")
    return [*words[:module], *done.stdout.split(), *words[module:]], file.name
