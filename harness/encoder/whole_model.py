"""Loads a backbone and checks that every weight of it came from the model's files, and that nothing in them is unused.

transformers gives random numbers to weights that the files lack, and only logs it.
"""

from __future__ import annotations

import copy
from collections.abc import Collection, Iterable
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel
from transformers import __version__ as transformers_version

from harness.model_folder.find import in_one_line

# Modules that classes of transformers put on a backbone, by their name in the file: for predicting words, classes or
# spans. Texts are not embedded with them. Source: the children of the classes in `transformers.models.auto`.
_HEADS = {
    "activation", "classification_head", "classifier", "cls", "decoder", "dense", "discriminator_predictions",
    "embed_out", "entity_predictions", "final_logits_bias", "generator_lm_head", "generator_predictions", "head",
    "lm_head", "lm_loss", "logits_proj", "pooler", "pre_classifier", "pred_layer", "predictions", "qa_classifier",
    "qa_outputs", "score", "sequence_summary", "sop_classifier", "vocab_layer_norm", "vocab_projector",
    "vocab_transform",
}  # fmt: skip
_MAY_BE_MISSING = "pooler."  # the encoder pools the token states itself
_OPTIONS = "model.attention and the other options of the recipe's model section"
_NUM_NAMED = 3


def load_whole(model_class: Any, folder: str, name: str, **options: Any) -> PreTrainedModel:
    """`model_class.from_pretrained(folder, **options)`, refused unless the model is all that its files hold.

    name: of the model, for messages. The attribute `pooler_is_random` says whether the files lack the pooler.

    Raises:
        OSError: no such folder or files.
        ValueError: weights are missing, left over, of another shape or not finite; or transformers cannot load the
            model. One line.
    """
    try:
        # Other shapes are let pass here, because transformers names them in a table of many lines.
        backbone, report = model_class.from_pretrained(
            folder, output_loading_info=True, ignore_mismatched_sizes=True, **options
        )
    except OSError:
        raise
    except (ValueError, TypeError, KeyError, AttributeError, ImportError, RuntimeError, AssertionError) as error:
        raise ValueError(
            f"{name}: got a model that transformers {transformers_version} cannot load "
            f"({in_one_line(error)}), expected a model whose config.json fits its class; check {_OPTIONS}"
        ) from error
    _check_shapes(name, report["mismatched_keys"])
    _check_names(name, backbone, set(report["missing_keys"]), set(report["unexpected_keys"]))
    check_finite(name, backbone.named_parameters())
    if options.get("trust_remote_code"):
        _check_buffers(name, backbone)
    backbone.pooler_is_random = any(key.startswith(_MAY_BE_MISSING) for key in report["missing_keys"])
    return backbone


def _check_shapes(name: str, mismatched: Collection[tuple[str, Any, Any]]) -> None:
    if mismatched:
        key, in_file, in_model = min(mismatched)
        raise ValueError(
            f"{name}: got {_count(mismatched)} of another shape than its config.json says "
            f"({key}: {list(in_file)}, not {list(in_model)}), expected equal shapes; take the config.json that belongs "
            "to these weights"
        )


def _check_names(name: str, backbone: nn.Module, missing: set[str], unexpected: set[str]) -> None:
    """Raise if weights are missing or left over."""
    expected = len(backbone.state_dict())
    left_over = {key for key in unexpected if not is_head(key, backbone)}
    missing = {key for key in missing if not key.startswith(_MAY_BE_MISSING)}
    if not missing and not left_over:
        return
    prefix = _other_prefix(missing, left_over)
    own_code = getattr(backbone.config, "auto_map", None) and type(backbone).__module__.startswith("transformers.")
    remedy = (
        f"the names in the file begin with {prefix!r}: remove that from them"
        if prefix
        else "its config.json names code of its own (auto_map): read it, then set trust_remote_code to let it run"
        if own_code
        else "take the model's whole folder, and the config.json of these weights"
    )
    found = [f"without {len(missing)} of {expected} weights ({_some(missing)})"] if missing else []
    found += [f"with {_count(left_over)} that its class has no place for ({_some(left_over)})"] if left_over else []
    raise ValueError(
        f"{name}: got a model {' and '.join(found)}, expected every weight that embeddings depend on and no "
        f"other; {remedy}"
    )


def is_head(key: str, backbone: nn.Module) -> bool:
    """Whether a weight belongs to a head, which stands beside the backbone and not inside it."""
    first = key.split(".", 1)[0]
    return first in _HEADS and first not in dict(backbone.named_children())


def _other_prefix(missing: set[str], left_over: set[str]) -> str | None:
    """What stands before all names in the file that the model knows without it; None if that is not the reason."""
    for key in missing:
        for other in left_over:
            if other.endswith(f".{key}"):
                return other.removesuffix(key)
    return None


def _count(keys: Collection[Any]) -> str:
    return f"{len(keys)} weight{'' if len(keys) == 1 else 's'}"


def _some(keys: set[str]) -> str:
    named = sorted(keys)[:_NUM_NAMED]
    return ", ".join(named) + (f" and {len(keys) - len(named)} more" if len(keys) > len(named) else "")


def check_finite(name: str, weights: Iterable[tuple[str, torch.Tensor]]) -> None:
    """Raise if a weight is NaN or infinite; the smallest and the largest of a tensor say so, in one pass over it."""
    broken = [key for key, value in weights if value.numel() and not all(map(torch.isfinite, torch.aminmax(value)))]
    if broken:
        raise ValueError(
            f"{name}: got numbers that are NaN or infinite in {_count(broken)} "
            f"({_some(set(broken))}), expected finite ones; take another copy or checkpoint of the model"
        )


def _check_buffers(name: str, backbone: PreTrainedModel) -> None:
    """Refuse a model whose own code computes numbers that transformers loses when it loads the weights.

    transformers (from 5 on) builds a model without memory and then fills in the weights. Buffers that are not in the
    file hold whatever was in memory, unless the class computes them again in `_init_weights`. So they are compared with
    those of a model that is built anew, of one layer, to keep it small.
    """
    if not type(backbone).__module__.startswith("transformers_modules."):
        return
    config = copy.deepcopy(backbone.config)
    if isinstance(getattr(config, "num_hidden_layers", None), int):
        config.num_hidden_layers = 1
    built = dict(type(backbone)(config).named_buffers())
    lost = [
        key
        for key, value in backbone.named_buffers()
        if key in built and built[key].shape == value.shape and key not in backbone.state_dict()
        if value.is_meta or not torch.equal(built[key], value)
    ]
    if lost:
        raise ValueError(
            f"{name}: got a model whose own code computes {_some(set(lost))} outside its weights, which "
            f"transformers {transformers_version} loses when it loads them, expected code made for this version: "
            "register_buffer with persistent=True and save the model again, or compute it in _init_weights"
        )
