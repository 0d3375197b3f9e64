"""Reads the configuration of a model's backbone, and how many tokens the backbone has positions for."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING

from harness.model_folder.find import in_one_line, no_such_model, resolve_model
from harness.model_folder.json_files import read_json
from harness.model_folder.layout import Layout, backbone_folder
from harness.model_folder.pooling import PoolingMode
from harness.settings.in_short import in_short

if TYPE_CHECKING:
    from transformers import PreTrainedConfig

# Model types that give the first token of a text the position pad_token_id + 1. No token uses the earlier positions.
_FIRST_POSITION_AFTER_PADDING = (
    "camembert", "data2vec-text", "esm", "ibert", "layoutlmv3", "lilt", "longformer", "luke", "markuplm", "mluke",
    "mpnet", "roberta", "roberta-prelayernorm", "xlm-roberta", "xlm-roberta-xl", "xmod",
)  # fmt: skip

# Types whose padding index is written in their class: `pad_token_id` of config.json does not move their positions.
_FIXED_PADDING = {"mpnet": 1}
_OTHER_NAMES = {"mpt": "max_seq_len"}  # of the key `max_position_embeddings`, by type
UNSTATED_LENGTH = 512  # tokens
KEY_OF_GEMMA = "use_bidirectional_attention"


def position_limit(name_or_path: str, trust_remote_code: bool = False) -> int | None:
    """The largest number of tokens that this model has positions for; None if it has no such limit.

    Raises:
        ValueError: no such model.
    """
    folder = backbone_folder(resolve_model(name_or_path, trust_remote_code))
    try:
        return positions_of_tokens(backbone_config(folder, trust_remote_code))
    except OSError as error:
        raise ValueError(no_such_model(name_or_path, error)) from error


def usual_length(layout: Layout, limit: int | None) -> int:
    """Tokens of the longest text of a model whose user names no length: the folder's, or `UNSTATED_LENGTH`.

    limit: see `position_limit`. Some folders allow more tokens than the backbone has positions for;
    sentence-transformers fails on such texts.
    """
    stated = layout.max_length or UNSTATED_LENGTH
    return stated if limit is None else min(stated, limit)


def check_text_length(longest: int, name_or_path: str, trust_remote_code: bool = False) -> None:
    """Check that the model has a position for every token of the longest text that the recipe allows, and gives such a
    text states that depend on nothing else.

    Raises:
        ValueError: it does not, or there is no such model.
    """
    limit = position_limit(name_or_path, trust_remote_code)
    if limit is not None and longest > limit:
        raise ValueError(f"model.max_length: got {longest}, but {name_or_path} takes at most {limit} tokens; lower it")
    folder = backbone_folder(resolve_model(name_or_path, trust_remote_code))
    switch = length_of_switch(backbone_config(folder, trust_remote_code))
    if switch is not None and longest > switch[0]:
        raise ValueError(
            f"model.max_length: got {longest}, but {name_or_path} {switch[1]}, expected at most {switch[0]}, because "
            "an embedding must not depend on the texts beside it; lower it"
        )


def steady_limit(name_or_path: str, trust_remote_code: bool = False) -> int | None:
    """The largest number of tokens of a text that has a position for each, and states that depend on nothing else; None
    without a limit.

    Raises:
        ValueError: no such model.
    """
    limit = position_limit(name_or_path, trust_remote_code)
    folder = backbone_folder(resolve_model(name_or_path, trust_remote_code))
    switch = length_of_switch(backbone_config(folder, trust_remote_code))
    return limit if switch is None else min(switch[0], limit or switch[0])


def length_of_switch(config: PreTrainedConfig) -> tuple[int, str] | None:
    """The length from which on transformers computes a whole batch in another way if one text is longer, and which
    way; None: it never does.

    Sources: `longrope_frequency_update` of transformers/modeling_rope_utils.py; `BigBirdModel.forward`.
    """
    text = config.get_text_config()
    rope = getattr(text, "rope_parameters", None) or getattr(text, "rope_scaling", None) or {}
    of_layers = [rope, *(part for part in rope.values() if isinstance(part, dict))] if isinstance(rope, dict) else []
    for part in of_layers:
        length = part.get("original_max_position_embeddings") or getattr(text, "original_max_position_embeddings", None)
        if "longrope" in (part.get("rope_type"), part.get("type")) and isinstance(length, int):
            return length, f"turns the positions of all texts of a batch otherwise if one has more than {length} tokens"
    if config.model_type == "big_bird" and config.attention_type == "block_sparse":
        length = (5 + 2 * config.num_random_blocks) * config.block_size
        return length, (
            f"(attention_type: block_sparse in config.json) reads longer texts in blocks only until a batch of at most "
            f"{length} tokens has come"
        )
    return None


def positions_of_tokens(config: object) -> int | None:
    """How many positions tokens can use in a backbone with this configuration; None if it does not say.

    Rotary and relative positions need no limit: such a configuration has no limit, or the length used in training.
    """
    name = _OTHER_NAMES.get(str(getattr(config, "model_type", None)), "max_position_embeddings")
    positions = getattr(config, name, None)
    if not isinstance(positions, int) or positions < 1:
        return None
    model_type = getattr(config, "model_type", None)
    if model_type in _FIRST_POSITION_AFTER_PADDING:
        return positions - 1 - _FIXED_PADDING.get(model_type, getattr(config, "pad_token_id", None) or 0)
    return positions


def default_pooling(
    config: PreTrainedConfig | SimpleNamespace, attention_mask: str | None = None
) -> tuple[PoolingMode, ...]:
    """The pooling of a folder that names none: last for a causal language model of a decoder, else mean.

    sentence-transformers 6.2 decides so, too (`SentenceTransformer._load_default_modules`). attention_mask: the
    recipe's, which replaces the folder's; None: it does not.
    """
    is_causal = getattr(config, "is_causal", True) is not False
    if not is_causal if attention_mask is None else attention_mask != "causal":
        return ("mean",)
    architectures = getattr(config, "architectures", None)
    first = architectures[0] if isinstance(architectures, list) and architectures else ""
    return ("last",) if str(first).endswith("ForCausalLM") else ("mean",)


def is_bidirectional(config: PreTrainedConfig) -> bool:
    """Whether a decoder's configuration says that every token reads all tokens, in the key that its class obeys."""
    text = config.get_text_config()
    return getattr(text, "is_causal", True) is False or (obeys_own_key(text) and bool(getattr(text, KEY_OF_GEMMA)))


def obeys_own_key(config: PreTrainedConfig) -> bool:
    """Whether this class of transformers has the key of the Gemma family; any other keeps it unread, for servers."""
    return hasattr(type(config), KEY_OF_GEMMA)


def backbone_config(folder: str, trust_remote_code: bool) -> PreTrainedConfig:
    """The configuration of the model in a folder. It is read once for what config.json holds, and shared: change only
    copies of it.

    Raises:
        OSError: the folder holds no configuration.
        ValueError: transformers does not know the model type, cannot read a value, or the model needs its own code,
            which is not trusted.
    """
    file = Path(folder).absolute() / "config.json"
    return _config_as_it_is(folder, trust_remote_code, str(file), file.read_bytes() if file.is_file() else b"")


@lru_cache
def _config_as_it_is(folder: str, trust_remote_code: bool, file: str, content: bytes) -> PreTrainedConfig:
    """See `backbone_config`. file, content: what one process may find changed, or elsewhere, under the same name."""
    # Imported here: the import takes seconds and reads variables that settings/environment.py must set before.
    from transformers import AutoConfig, dynamic_module_utils

    # Nothing here may wait for an answer on the terminal: without leave, transformers must refuse a model's own code.
    dynamic_module_utils.TIME_OUT_REMOTE_CODE = 0
    try:
        return AutoConfig.from_pretrained(folder, trust_remote_code=trust_remote_code)
    except OSError:
        raise
    except Exception as error:  # strange values raise errors of every kind in the configuration classes
        raise ValueError(_unusable(Path(folder) / "config.json", error)) from error


def _unusable(file: Path, error: Exception) -> str:
    """One line that says why a configuration cannot be used."""
    from transformers import __version__
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING_NAMES

    if file.parent.is_dir() and not file.is_file():
        return f"{file}: got no such file, expected the model's configuration; name the folder that holds it"
    settings = read_json(file, dict) if file.is_file() else {}
    kind = settings.get("model_type")
    if settings.get("auto_map"):
        return (
            f"{file}: got a model with code of its own (auto_map), which cannot be used ({in_one_line(error)}); read "
            "the code, then set trust_remote_code to let it run"
        )
    if settings and not (isinstance(kind, str) and kind in CONFIG_MAPPING_NAMES):
        return (
            f"{file}: model_type: got {in_short(kind) if kind else 'nothing'}, "
            f"expected a type that transformers {__version__} knows; "
            "install a version that has it, or correct the file"
        )
    return (
        f"{file}: got values that transformers {__version__} cannot use ({in_one_line(error)}), expected the "
        "configuration as it was saved; fetch or correct the file"
    )
