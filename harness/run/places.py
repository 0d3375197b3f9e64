"""Resolves the data paths of a recipe, those of the demo data included; checks that a run can write where it will."""

from __future__ import annotations

from pathlib import Path, PurePath

from harness import rank0
from harness.config import BANKS, CHECKPOINTS, LoadedRecipe, RunConfig
from harness.data.source.locate import cache_root, locate
from harness.demo.corpus import PREFIX, build_demo_corpus
from harness.files import check_output, folder_size
from harness.model_folder.layout import has_adapter
from harness.model_folder.preflight import count_weights

# Bytes that a run writes at least, per weight: an export is written in float32 and copied; a checkpoint holds float32
# weights, the two moments of the optimizer and an export.
BYTES_OF_EXPORT, BYTES_OF_CHECKPOINT = 8, 16


def locate_data(
    path: str,
    *,
    recipe_folder: Path | None = None,
    data_root: Path | None = None,
    cache: str | None = None,
    allow_hub: bool = True,
) -> str:
    """Resolve a path as `locate` does. `demo-docstrings/...` is demo data, built in the cache folder on first use.

    cache: the recipe's `data.cache`; None means the user's cache folder.
    """
    first, *rest = PurePath(path).parts or ("",)
    if first == PREFIX:
        path, allow_hub = str(build_demo_corpus(cache_root(cache)).joinpath(*rest)), False
    return locate(path, recipe_folder=recipe_folder, data_root=data_root, allow_hub=allow_hub)


def locate_for(loaded: LoadedRecipe, path: str, *, allow_hub: bool = True) -> str:
    """Resolve a data path of this recipe."""
    return locate_data(
        path,
        recipe_folder=loaded.recipe_folder,
        data_root=loaded.data_root,
        cache=loaded.config.data.cache,
        allow_hub=allow_hub,
    )


def locate_source(loaded: LoadedRecipe, path: str | tuple[str, ...]) -> str | tuple[str, ...]:
    """Resolve the data path, or each of several data paths, of a task."""
    return locate_for(loaded, path) if isinstance(path, str) else tuple(locate_for(loaded, one) for one in path)


def check_places(config: RunConfig) -> None:
    """Check, before anything is read or loaded, that the run can write where it will. Every rank must call it.

    How much room it needs is known, and checked, once the model is found: see `check_machine`.

    Raises:
        ValueError: `output` or `data.cache` cannot be written to.
    """

    def check() -> None:
        for path in (Path(config.output), *(Path(config.output) / name for name in (CHECKPOINTS, BANKS))):
            check_output(path, "output")
        check_output(cache_root(config.data.cache), "data.cache")

    rank0.by_main(check)


def check_room(config: RunConfig) -> None:
    """Raise ValueError if the disk of `output` has no room for what the run writes. No collectives."""
    num_weights = count_weights(config.model.name_or_path, config.model.trust_remote_code)
    every, steps = config.checkpoint.every, config.training.steps
    # A new checkpoint is written before the oldest is removed. What earlier starts have written is there already.
    # With epochs, whose steps are not known before the data is read, there may be as many as are kept.
    most = config.checkpoint.keep + 1
    num_checkpoints = 0 if every == 0 else most if not every or not steps else min(most, -(-steps // every))
    if config.model.lora is not None or has_adapter(config.model.name_or_path):
        num_checkpoints = 0  # they hold the adapter and its moments only, which is next to nothing
    average = 0 if config.training.ema is None else 4
    needed = num_weights * (BYTES_OF_EXPORT + num_checkpoints * (BYTES_OF_CHECKPOINT + average))
    folder = Path(config.output)
    check_output(folder, "output", max(0, needed - folder_size(folder)))
