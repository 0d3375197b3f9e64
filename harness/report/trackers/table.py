"""The trackers by name, the package each needs, and how one is opened."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from harness.report.trackers.tracker import Tracker

# name → (module that must be importable, what to install, file and class here)
_TRACKERS = {
    "tensorboard": ("tensorboard", "tensorboard", "tensorboard", "TensorBoardFiles"),
    "wandb": ("wandb", "wandb", "wandb", "WandbRun"),
    "mlflow": ("mlflow", "mlflow-skinny", "mlflow", "MlflowRun"),
}


def check_trackers(names: Sequence[str]) -> None:
    """Check, before anything is loaded, that the packages of these trackers are installed.

    Raises:
        ValueError: one is not; the message has the command that installs it.
    """
    for name in names:
        module, package, *_ = _TRACKERS[name]
        if find_spec(module) is None:
            raise ValueError(
                f"report.trackers: got {name}, whose package is not installed; pip install {package}, or leave it out"
            )


def open_tracker(name: str, folder: Path, settings: dict[str, Any], resumed_from: int) -> Tracker:
    """Start or continue the run with a tracker. What its client raises goes through."""
    _, _, file, class_name = _TRACKERS[name]
    tracker = getattr(import_module(f"harness.report.trackers.{file}"), class_name)
    return tracker(folder, settings, resumed_from)
