"""Reads and writes run.json: the run's data, package versions, machine and speed."""

from __future__ import annotations

import os
import platform
import subprocess
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import psutil
import torch

from harness.files import replace_file
from harness.settings import checked_json as json
from harness.settings.version import __version__

PACKAGES = ("torch", "deepspeed", "transformers", "datasets", "sentence-transformers", "triton", "numpy")


class RunFile:
    """Reads and writes run.json, which holds one JSON object. Every change replaces the whole file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def read(self) -> dict[str, Any] | None:
        """The object; None if there is no run yet.

        Raises:
            ValueError: the file is not a JSON object.
        """
        if not self.path.exists():
            return None
        try:
            content = json.loads(self.path.read_text(encoding="utf-8"))
        except ValueError:
            content = None
        if not isinstance(content, dict):
            raise ValueError(
                f"{self.path}: got another content, expected a JSON object; delete it: the run continues without it"
            )
        return content

    def start(self, facts: Mapping[str, Any], resumed_from: int) -> None:
        """Write the facts that are known before the first step. A continued run keeps the time of its first start."""
        earlier = (self.read() if resumed_from else None) or {}
        now = timestamp()
        replace_file(
            self.path,
            _as_json(
                {
                    **facts,
                    "resumed_from": resumed_from,
                    "versions": package_versions(),
                    "hardware": hardware(),
                    "started": earlier.get("started", now),
                    "resumed": now if resumed_from else None,
                    "ended": None,
                    "finished": False,
                }
            ),
        )

    def finish(self, facts: Mapping[str, Any]) -> None:
        """Add the facts that are known after the last step, and mark the run finished."""
        replace_file(self.path, _as_json({**(self.read() or {}), **facts, "ended": timestamp(), "finished": True}))


def package_versions() -> dict[str, str | None]:
    """The versions that a result depends on; None: not installed. `commit`: the harness's, if run from a checkout."""
    versions: dict[str, str | None] = {
        "harness": __version__,
        "commit": _commit(),
        "python": platform.python_version(),
    }
    for package in PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            versions[package] = None
    versions["torch"] = torch.__version__  # with its build (+cu130), which the metadata of PyPI's package does not name
    return versions


def hardware() -> dict[str, Any]:
    """This machine: processor, cores this process may use, bytes of memory, GPUs."""
    return {
        "cpu": _cpu_model(),
        "num_cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "memory_bytes": psutil.virtual_memory().total,
        "gpus": [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())],
        "host": platform.node(),
        "system": platform.platform(),
    }


def timestamp() -> str:
    """Now, in UTC, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def _cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    models = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(models, platform.processor() or platform.machine())


def _commit() -> str | None:
    checkout = Path(__file__).parents[2]
    if not (checkout / ".git").exists():
        return None
    command = ["git", "-C", str(checkout), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        completed = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return completed.stdout.strip() or None


def _as_json(content: Mapping[str, Any]) -> str:
    return json.dumps(content, indent=2, ensure_ascii=False) + "\n"
