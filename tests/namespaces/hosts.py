"""Hosts as network namespaces of this machine: an interface net0 each, sshd with keys of their own, names host-1 ...

They share this machine's files, as hosts with a shared folder do. Nothing of the user's own ssh is read or written.
"""

from __future__ import annotations

import hashlib
import itertools
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
NETWORK = "10.77.13"
_NUMBERS = itertools.count()
_PROGRAMS = ("ip", "unshare", "ssh", "ssh-keygen", "pdsh", "/usr/sbin/sshd")


def missing() -> str | None:
    """Why there can be no such hosts here; None if there can."""
    absent = [name for name in _PROGRAMS if shutil.which(name) is None]
    if absent:
        return f"{', '.join(absent)} not installed"
    if os.geteuid() != 0:
        return "only root may make network namespaces"
    name = f"probe{os.getpid()}"
    done = subprocess.run(["ip", "netns", "add", name], capture_output=True, text=True, check=False)
    subprocess.run(["ip", "netns", "delete", name], capture_output=True, check=False)
    return None if done.returncode == 0 else f"network namespaces are not allowed here: {done.stderr.strip()}"


@dataclass(frozen=True)
class Hosts:
    """Running hosts. folder: theirs, for keys, the wrapper of ssh and the hostfile."""

    folder: Path
    prefix: str
    count: int

    def address(self, host: int) -> str:
        return f"{NETWORK}.{host}"

    @property
    def hostfile(self) -> Path:
        path = self.folder / "hostfile"
        path.write_text("".join(f"{self.address(host)} slots=1\n" for host in range(1, self.count + 1)))
        return path

    def start(self, host: int, command: Sequence[str], **environment: str) -> subprocess.Popen[str]:
        """Start a command on a host (from 1), in a fresh shell's environment, its output in one stream."""
        clean = {
            "PATH": f"{self.folder / 'bin'}:{Path(sys.executable).parent}:/usr/sbin:/usr/bin:/sbin:/bin",
            "HOME": str(self.folder / "home"), "VIRTUAL_ENV": str(self.folder / "venv"),
            "PYTHONPATH": f"{ROOT}:{ROOT / 'kernels'}", "OMP_NUM_THREADS": "1", **environment,
        }  # fmt: skip
        inside = ["ip", "netns", "exec", f"{self.prefix}{host}", "unshare", "--uts", "sh", "-c"]
        script = f'hostname host-{host}; exec "$@"'
        return subprocess.Popen(
            [*inside, script, "sh", *command], env=clean, cwd=ROOT, text=True, stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip

    def cut(self, host: int, is_cut: bool) -> None:
        """Cut a host's link, or mend it: packets are lost, as with a pulled cable behind the next switch."""
        change = ["up", "down"][is_cut]
        _run("ip", "link", "set", f"{self.prefix}v{host}", change)


@contextmanager
def hosts(folder: Path, count: int = 2) -> Iterator[Hosts]:
    """Hosts that are joined by a bridge as long as the context lasts."""
    made = Hosts(folder, f"h{os.getpid()}n{next(_NUMBERS)}", count)  # the kernel forgets deleted links later
    bridge, servers = f"{made.prefix}b", []
    try:
        _write_ssh(made)
        _write_environment(made.folder / "venv")
        _run("ip", "link", "add", bridge, "type", "bridge")
        _run("ip", "link", "set", bridge, "up")
        for host in range(1, count + 1):
            _join(made, host, bridge)
            server = ["/usr/sbin/sshd", "-D", "-e", "-f", str(folder / "sshd_config")]
            servers.append(made.start(host, server))
        yield made
    finally:
        for host in range(1, count + 1):
            _end_all(f"{made.prefix}{host}")
        for server in servers:
            server.wait()
        for host in range(1, count + 1):
            subprocess.run(["ip", "netns", "delete", f"{made.prefix}{host}"], capture_output=True, check=False)
        subprocess.run(["ip", "link", "delete", bridge], capture_output=True, check=False)


def _join(made: Hosts, host: int, bridge: str) -> None:
    space, outer, inner = f"{made.prefix}{host}", f"{made.prefix}v{host}", f"{made.prefix}i{host}"
    inside = ("ip", "-n", space)
    _run("ip", "netns", "add", space)
    _run("ip", "link", "add", outer, "type", "veth", "peer", "name", inner)
    _run("ip", "link", "set", inner, "netns", space)
    _run(*inside, "link", "set", inner, "name", "net0")
    _run(*inside, "addr", "add", f"{made.address(host)}/24", "dev", "net0")
    for name in ("lo", "net0"):
        _run(*inside, "link", "set", name, "up")
    _run("ip", "link", "set", outer, "master", bridge)
    _run("ip", "link", "set", outer, "up")


def _write_ssh(made: Hosts) -> None:
    """Keys, the server's settings, and a wrapper of ssh that reads only these."""
    folder = made.folder
    (folder / "bin").mkdir(parents=True)
    (folder / "home").mkdir()
    Path("/run/sshd").mkdir(exist_ok=True)  # sshd does not start without it
    for name in ("host_key", "user_key"):
        _run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / name))
    shutil.copy(folder / "user_key.pub", folder / "authorized_keys")
    (folder / "sshd_config").write_text(
        f"HostKey {folder / 'host_key'}\nAuthorizedKeysFile {folder / 'authorized_keys'}\nPidFile none\n"
        "StrictModes no\nUsePAM no\nPermitRootLogin yes\nPasswordAuthentication no\n"
    )
    (folder / "ssh_config").write_text(
        f"IdentityFile {folder / 'user_key'}\nIdentitiesOnly yes\nStrictHostKeyChecking no\nLogLevel ERROR\n"
        "UserKnownHostsFile /dev/null\n"
    )
    ssh = folder / "bin" / "ssh"
    ssh.write_text(f'#!/bin/sh\nexec {shutil.which("ssh")} -F {folder / "ssh_config"} "$@"\n')
    ssh.chmod(0o755)


def _write_environment(venv: Path) -> None:
    """This Python's environment under another name, which launch.sh takes for installed and leaves as it is."""
    venv.mkdir()
    for part in Path(sys.prefix).iterdir():
        if part.name != ".harness-installed":
            (venv / part.name).symlink_to(part)
    pins = b"".join((ROOT / name).read_bytes() for name in ("pyproject.toml", "constraints.txt"))
    digest = hashlib.sha256(pins + f"{ROOT}\n".encode()).hexdigest()
    (venv / ".harness-installed").write_text(f"{digest} demo\n")


def _end_all(space: str) -> None:
    """Kill every process of a host."""
    found = subprocess.run(["ip", "netns", "pids", space], capture_output=True, text=True, check=False).stdout.split()
    for process in map(int, found):
        with suppress(ProcessLookupError):
            os.kill(process, signal.SIGKILL)


def _run(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True)
