"""What the names of a training script stand for: data sets, losses, models, and what nobody but Python can know."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

BUILDERS = ("json", "csv", "parquet", "arrow", "text", "pandas", "xml", "webdataset")
SPLITS = ("train", "test", "validation", "valid", "val", "dev", "eval")
# Arguments by position, where scripts give them so; the model comes first.
POSITIONS: dict[str, tuple[str, ...]] = {
    "MatryoshkaLoss": ("model", "loss", "matryoshka_dims", "matryoshka_weights", "n_dims_per_step"),
    "Matryoshka2dLoss": ("model", "loss", "matryoshka_dims", "matryoshka_weights"),
    "AdaptiveLayerLoss": ("model", "loss"),
    "GISTEmbedLoss": ("model", "guide", "temperature"),
    "CachedGISTEmbedLoss": ("model", "guide", "temperature", "mini_batch_size"),
    "MultipleNegativesRankingLoss": ("model", "scale", "similarity_fct", "gather_across_devices"),
    "CachedMultipleNegativesRankingLoss": ("model", "scale", "similarity_fct", "mini_batch_size"),
    "MultipleNegativesSymmetricRankingLoss": ("model", "scale", "similarity_fct", "gather_across_devices"),
    "CachedMultipleNegativesSymmetricRankingLoss": ("model", "scale", "similarity_fct", "mini_batch_size"),
    "CoSENTLoss": ("model", "scale", "similarity_fct"),
    "AnglELoss": ("model", "scale"),
    "DistillKLDivLoss": ("model", "similarity_fct", "temperature"),
}
WRAPPERS = ("MatryoshkaLoss", "Matryoshka2dLoss", "AdaptiveLayerLoss")
TRAINER = ("model", "args", "train_dataset", "eval_dataset", "loss", "evaluator")


class Computed:
    """A value that only running the script would tell."""


COMPUTED = Computed()


@dataclass(frozen=True, slots=True)
class Model:
    """A `SentenceTransformer(...)`: its name, or COMPUTED, and the other arguments as they were read."""

    name: Any
    settings: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class DataSet:
    """Rows that a script loads.

    path: a file or several, a folder or a hub name. files: by split, where the script names them so; path is then
    empty. changes: what the script does to the rows, in words; the recipe takes them as they lie there.
    """

    path: str | tuple[str, ...]
    split: str | None = None
    config_name: str | None = None
    files: dict[str, Any] | None = None
    changes: tuple[str, ...] = ()

    def of_split(self, split: str) -> DataSet:
        """The rows of one split, `train` or `train[:10%]`."""
        base, sliced, _ = split.partition("[")
        changes = (*self.changes, f"split {split}") if sliced or "+" in base else self.changes
        base = base.partition("+")[0]
        if self.files is None:
            return replace(self, split=base, changes=changes)
        found = self.files.get(base, ())
        paths = (found,) if isinstance(found, str) else tuple(found)
        return replace(self, path=paths[0] if len(paths) == 1 else paths, files=None, changes=changes)

    @property
    def resolved(self) -> DataSet:
        """Of files by split that the script never asks for by name: those to train on, else all."""
        if self.files is None:
            return self
        return self.of_split("train" if "train" in self.files else next(iter(self.files), "train"))

    @property
    def places(self) -> list[tuple[str, str | None]]:
        """(file, folder or hub name; split or None) of each part."""
        of_splits = [self.path] if self.files is None else self.files.values()
        return [(one, self.split) for paths in of_splits for one in ([paths] if isinstance(paths, str) else paths)]


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a data set, as evaluators take it."""

    of: DataSet


@dataclass(frozen=True, slots=True)
class LossCall:
    """A loss: its name, its arguments and its model. inside: the wrappers around it, the outermost first."""

    name: str
    arguments: dict[str, Any]
    model: Any = None
    inside: tuple[str, ...] = ()


def indexed(value: Any, key: Any) -> Any:
    """`value[key]` of a script."""
    if isinstance(value, DataSet) and isinstance(key, str):
        is_split = key in (value.files or ()) or (value.split is None and key in SPLITS)
        return value.of_split(key) if is_split else Column(value)
    if isinstance(value, Column):
        return value
    try:
        return value[key]
    except (KeyError, IndexError, TypeError):
        return COMPUTED


_SAME_ROWS = ("shuffle", "with_format", "flatten_indices", "to_iterable_dataset", "cast", "cast_column", "copy")


def changed(value: Any, method: str) -> Any:
    """`value.method(...)` of a script: the rows as they lie there, with a word on what the script does to them."""
    if isinstance(value, dict) and method in _SAME_ROWS:
        return value
    if not isinstance(value, DataSet):
        return COMPUTED
    return value if method in _SAME_ROWS else replace(value, changes=(*value.changes, method))


def loaded(name: str, values: dict[Any, Any]) -> Any:
    """The data set of `load_dataset`, `load_from_disk` or `Dataset.from_...`; values: arguments by position or name."""
    first = values.get(0, values.get("path", values.get("dataset_path", values.get("path_or_paths", COMPUTED))))
    if name != "load_dataset":
        paths = (first,) if isinstance(first, str) else tuple(first) if isinstance(first, list) else ()
        return DataSet(paths[0] if len(paths) == 1 else paths) if paths else COMPUTED
    config, split = values.get(1, values.get("name")), values.get("split")
    files = values.get("data_files", values.get("data_dir") if first in BUILDERS else None)
    if any(value is COMPUTED for value in (first, config, split, files)):
        return COMPUTED
    if files is None or first not in BUILDERS:
        data = DataSet(first, config_name=config, changes=("data_files",) if files is not None else ())
    elif isinstance(files, dict):
        data = DataSet("", files=files)
    else:
        paths = (files,) if isinstance(files, str) else tuple(files)
        data = DataSet(paths[0] if len(paths) == 1 else paths)
        if isinstance(split, str):  # a file has one split, `train`, whatever it is called
            return replace(data.of_split(split), split=None)
    return data.of_split(split) if isinstance(split, str) else data
