"""`python -m harness.hosts.hostfile FILE FLAGS...`: what launch.sh asks before DeepSpeed starts ranks on other hosts.

FLAGS are those of DeepSpeed's launcher. Checks the hostfile and the hosts, writes the variables that other hosts get
to FILE (DeepSpeed reads it as its .deepspeed_env), and prints the flags to add. A mistake costs a line and status 2.
"""

from __future__ import annotations

import ipaddress
import os
import re
import shlex
import shutil
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

SSH_SECONDS = 10
# What a rank reads from its environment. DeepSpeed hands on PYTHON..., NCCL... and little else.
_HANDED_ON = (
    "OMP_NUM_THREADS", "DS_ACCELERATOR", "HARNESS_", "NCCL_", "GLOO_", "TORCH_", "MALLOC_", "GLIBC_TUNABLES", "HF_",
    "TRANSFORMERS_", "TOKENIZERS_", "TRITON_", "XDG_CACHE_HOME", "LD_LIBRARY_PATH", "MKL_", "CUDA_HOME", "TMPDIR",
)  # fmt: skip
_SECRET = re.compile("TOKEN$|SECRET|PASSWORD|_KEY$")  # a command line can be read by every user of a host


def main(arguments: Sequence[str]) -> int:
    """Check, write the file, print the flags. Returns the exit status."""
    environment_file, *flags = arguments
    try:
        hosts = read_hostfile(Path(option(flags, "--hostfile", "-H") or ""))
        added = flags_for(hosts, flags)
    except ValueError as error:
        print(error, file=sys.stderr)
        return 2
    Path(environment_file).write_text("".join(f"{line}\n" for line in handed_on(os.environ)))
    print(" ".join(added))
    return 0


def option(flags: Sequence[str], *names: str) -> str | None:
    """The value of a flag of the launcher, `--name value` or `--name=value`; None if it is not given."""
    for index, flag in enumerate(flags):
        if flag in names:
            return flags[index + 1] if index + 1 < len(flags) else None
        name, sign, value = flag.partition("=")
        if sign and name in names:
            return value
    return None


def read_hostfile(path: Path) -> dict[str, int]:
    """Host → number of ranks on it.

    Raises:
        ValueError: no such file, or a line that is not `HOST slots=N`. DeepSpeed would go on with this host alone.
    """
    if not path.is_file():
        raise ValueError(f"--hostfile: got {path}, which is no file, expected one with a line HOST slots=N per host")
    hosts: dict[str, int] = {}
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: got {error}, expected text in UTF-8, a line HOST slots=N per host") from None
    for number, line in enumerate(lines, start=1):
        text = line.partition("#")[0].strip()
        found = re.fullmatch(r"(\S+)\s+slots=([1-9]\d*)", text)
        if text and (found is None or found[1] in hosts):
            raise ValueError(f"{path}:{number}: got {text!r}, expected HOST slots=N, every host once")
        if found is not None:
            hosts[found[1]] = int(found[2])
    if not hosts:
        raise ValueError(f"{path}: got no host, expected a line HOST slots=N per host")
    return hosts


def flags_for(hosts: Mapping[str, int], flags: Sequence[str]) -> list[str]:
    """The flags to add: the address of the first host, by which all hosts can reach it.

    Raises:
        ValueError: a host that cannot be used, or a program that is missing here.
    """
    if "--no_ssh" in flags:
        rank = option(flags, "--node_rank") or ""
        if not rank.isdigit() or int(rank) >= len(hosts):
            raise ValueError(f"--node_rank: got {rank or 'nothing'} with --no_ssh, expected 0 to {len(hosts) - 1}")
    elif option(flags, "--launcher") in (None, "pdsh"):
        _check_hosts(list(hosts), option(flags, "--ssh_port"))
    filters = ("--include", "-i", "--exclude", "-e", "--num_nodes")
    if option(flags, "--master_addr") or any(option(flags, name) for name in filters) or len(hosts) == 1:
        return []
    address = address_of_first(list(hosts))
    return [] if address is None else [f"--master_addr={address}"]


def address_of_first(hosts: Sequence[str]) -> str | None:
    """The first host's address towards the second; None if it has no address here, but for ssh a name only.

    DeepSpeed takes the first of all its addresses, which may be that of a bridge that no other host reaches.
    """
    try:
        address = str(socket.getaddrinfo(hosts[0], None, type=socket.SOCK_DGRAM)[0][4][0])
        if ipaddress.ip_address(address).is_loopback:  # this host, which knows itself as 127.0.1.1
            family, kind, _, _, place = socket.getaddrinfo(hosts[1], 9, type=socket.SOCK_DGRAM)[0]
            with socket.socket(family, kind) as probe:
                probe.connect(place)
                address = str(probe.getsockname()[0])
    except OSError:
        return None
    return None if ipaddress.ip_address(address).is_loopback else address


def handed_on(environment: Mapping[str, str]) -> list[str]:
    """NAME=VALUE of what ranks on other hosts get: the user's own .deepspeed_env, and what is set here."""
    named = environment.get("HARNESS_USER_ENV_FILE") or ".deepspeed_env"
    lines: dict[str, str] = {
        name: value for name, value in environment.items() if name.startswith(_HANDED_ON) and not _SECRET.search(name)
    }
    for folder in (Path.home(), Path()):
        if (folder / named).is_file():
            pairs = [line.partition("=") for line in (folder / named).read_text().splitlines() if "=" in line]
            lines |= {name.strip(): value for name, _, value in pairs}
    return [f"{name}={value}" for name, value in lines.items() if "\n" not in value]


def _check_hosts(hosts: Sequence[str], port: str | None) -> None:
    """Raise unless every host can be reached by ssh without a password and has this folder and this Python."""
    for program, package in (("pdsh", "pdsh"), ("ssh", "openssh-client")):
        if shutil.which(program) is None:
            raise ValueError(
                f"{program}: got no such program on PATH, expected it, because DeepSpeed starts other hosts with it; "
                f"install it (Debian: {package}), or start every host with --no_ssh --node_rank N"
            )
    with ThreadPoolExecutor(max_workers=32) as pool:
        problems = [problem for problem in pool.map(lambda host: _problem_of(host, port), hosts) if problem]
    if problems:
        raise ValueError("\n".join(problems))


def _problem_of(host: str, port: str | None) -> str | None:
    here, python = os.getcwd(), sys.executable
    places = {python: f"test -x {shlex.quote(python)}", here: f"test -d {shlex.quote(here)}"}
    command = "; ".join(f"{test} || echo {shlex.quote(place)}" for place, test in places.items())
    options = ["-o", "BatchMode=yes", "-o", f"ConnectTimeout={SSH_SECONDS}", *(["-p", port] if port else [])]
    try:
        done = subprocess.run(
            ["ssh", *options, host, command], capture_output=True, text=True, timeout=2 * SSH_SECONDS, check=False
        )
    except subprocess.TimeoutExpired:
        return f"--hostfile: {host} did not answer ssh in {2 * SSH_SECONDS} s"
    if done.returncode:
        why = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
        return f"--hostfile: {host} cannot be reached by ssh without a password ({why})"
    missing = done.stdout.split("\n")[0]
    if missing:
        return f"--hostfile: {host} has no {missing}, expected checkout and environment at the same place on every host"
    return None


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
