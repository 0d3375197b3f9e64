"""What is a run folder, and which of its folders holds its model."""

from __future__ import annotations

from pathlib import Path

from harness.config import CHECKPOINTS, RunConfig
from harness.engine.checkpoint import Checkpoints, resolve_pointer
from harness.report.messages import warn
from harness.settings import checked_json as json
from harness.settings.recipe_file import build
from harness.settings.section import OF_RUN
from harness.settings.yaml_text import read_yaml

_WRITTEN = frozenset(RunConfig.model_fields)  # the sections of a resolved recipe


def is_run_folder(folder: Path) -> bool:
    """Whether the folder's recipe.yaml is one that a run has written: with every section, the defaults' too.

    Other programs have files of this name, and so may a user, for a recipe of his own among files of his own.
    """
    try:
        tree = read_yaml(folder / "recipe.yaml")
    except (OSError, ValueError):
        return False
    return isinstance(tree, dict) and tree.keys() >= _WRITTEN


def recipe_of_run(recipe: Path) -> RunConfig:
    """The recipe in a run folder, with the prompts that the model's folder stores.

    Raises:
        ValueError: it is no recipe.
    """
    return build(RunConfig, read_yaml(recipe), str(recipe), context=OF_RUN)


def has_weights(model: Path) -> bool:
    """Whether an exported model is there, and not only a part of it. See `Preflight` for all that may be wrong."""
    return (model / "modules.json").is_file() and any(model.glob("*.safetensors"))


def is_run(name: str) -> bool:
    """Whether MODEL is a run folder or one of its checkpoints (not the exported model/ in it)."""
    folder = resolve_pointer(Path(name))
    return (folder / "recipe.yaml").is_file() or (folder / "state.json").is_file()


def model_folder(name: str) -> str:
    """The folder with MODEL's weights.

    For a run: its model/, or the model/ of its newest undamaged checkpoint. While a run is trained again or further,
    its model/ is that of before, so the checkpoint goes first. For a checkpoint: its model/. Any other name is
    returned unchanged.

    Raises:
        ValueError: MODEL is a run folder without a model yet.
    """
    folder = resolve_pointer(Path(name))
    if (folder / "state.json").is_file() and (folder / "model").is_dir():
        return str(folder / "model")
    if not (folder / "recipe.yaml").is_file():
        return name
    model = folder / "model"
    is_in_training = model.is_dir() and _says_unfinished(folder)
    if model.is_dir() and not is_in_training:
        return str(model)
    newest = Checkpoints(folder / CHECKPOINTS, keep=1).newest_whole()
    if newest is not None:
        return str(newest / "model")
    if not is_in_training:
        raise ValueError(f"MODEL: got {name}, a run without a finished model or a whole checkpoint yet")
    warn(f"{folder} is not finished and has no checkpoint yet: {model} is what an earlier run has left")
    return str(model)


def _says_unfinished(folder: Path) -> bool:
    """Whether run.json says that the run has not ended. Without a readable run.json nothing says so."""
    try:
        return json.loads((folder / "run.json").read_text(encoding="utf-8"))["finished"] is False
    except (OSError, ValueError, KeyError, TypeError):
        return False
