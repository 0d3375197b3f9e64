"""What the rows start: a tiny recipe, the environment of a user's shell, overrides as words of a command line."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from tests.tiny import make_data, make_model, make_recipe

ROOT = Path(__file__).parents[2]
NOTHING = "nothing"
_OF_A_LAUNCHER = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_PORT")


def environment() -> dict[str, str]:
    """This process' variables without those of a launcher; our code on the path, one thread, the CPU."""
    kept = {name: value for name, value in os.environ.items() if name not in _OF_A_LAUNCHER}
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    ours = {"PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'kernels'}", "PATH": path, "PYTHONUNBUFFERED": "1"}
    return {**kept, **ours, "DS_ACCELERATOR": "cpu", "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}


def recipe_in(folder: Path) -> Path:
    """A tiny model, its data and a recipe in a folder; returns the recipe."""
    make_model(folder / "model")
    make_data(folder)
    return make_recipe(folder)


def overrides(changes: tuple[str, ...]) -> list[str]:
    """("a=1", "b=2") -> ["--set", "a=1", "--set", "b=2"]."""
    return [word for change in changes for word in ("--set", change)]
