"""Whether the layers of a loaded backbone read a text as `model.attention_mask` asks for, found by trying.

A configuration that says so proves nothing: transformers ignores keys that a class does not know, some classes obey
only where texts are padded, and layers of convolutions or states stay causal.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map
from transformers import PreTrainedModel

from harness.encoder.attention.direction import shortest_window
from harness.encoder.attention.soft_mask import additive_mask
from harness.encoder.config import ModelConfig
from harness.model_folder.find import words_of

_LENGTH, _PADDING = 5, 3  # tokens of the probe
_REMEDY = "leave model.attention_mask out for this model"


@torch.no_grad()
def check_attention_mask(backbone: PreTrainedModel, config: ModelConfig) -> None:
    """Check every layer: whether changing the last token of a text changes the state of the token before it.

    Raises:
        ValueError: a layer reads in another direction than the recipe says, with or without padding; or `soft` is asked
            of a backbone that does not take a mask of numbers, or whose layers do not read whole texts.
    """
    if config.attention_mask is None:
        return
    _check_windows(backbone, config)
    own = backbone.config._attn_implementation
    if own == "flash_attention_2":  # which obeys the same key, and does not run on a CPU, where the model is now
        backbone.set_attn_implementation("sdpa")
    _check_masks(backbone, config)
    if backbone.config._attn_implementation != own:
        backbone.set_attn_implementation(own)


def _check_masks(backbone: PreTrainedModel, config: ModelConfig) -> None:
    wanted = config.attention_mask
    real, padded = _mask(0), _mask(_PADDING)
    for mask_BL in (real, padded):
        _check_layers(backbone, config, mask_BL, mask_BL, is_causal=wanted == "causal")
    if wanted == "soft":
        for mask_BL in (real, padded):
            _check_layers(backbone, config, mask_BL, additive_mask(mask_BL, 0.0, backbone.dtype), is_causal=True)
        _check_open_mask(backbone, config, padded)


def _check_windows(backbone: PreTrainedModel, config: ModelConfig) -> None:
    window = shortest_window(backbone.config)
    if config.attention_mask == "soft" and window is not None and config.longest_text > window:
        raise ValueError(
            f"{_got(backbone, config)}, whose layers read {window} tokens of texts of up to {config.longest_text}, "
            f"expected layers that read whole texts; lower model.max_length to {window}, or set bidirectional"
        )


def _check_layers(
    backbone: PreTrainedModel, config: ModelConfig, mask_BL: Tensor, attention_mask: Tensor, *, is_causal: bool
) -> None:
    """attention_mask: what the backbone is given for the text that `mask_BL` describes."""
    try:
        calls = _layer_calls(backbone, mask_BL, attention_mask)
        if not calls:
            raise ValueError("it has no list of layers")
        causal = [not _reads_later_tokens(*call) for call in calls]
    except Exception as error:  # the code of a model may do anything
        raise ValueError(
            f"{_got(backbone, config)}, whose layers cannot be tried one by one ({words_of(error)[:200]}), expected a "
            f"decoder of transformers; {_REMEDY}"
        ) from error
    wrong = [index for index, found in enumerate(causal) if found != is_causal]
    if wrong:
        is_padded = " with padding" if mask_BL.shape[1] > _LENGTH else ""
        direction = "read later tokens" if is_causal else "do not read later tokens"
        raise ValueError(
            f"{_got(backbone, config)}, of which {len(wrong)} of {len(causal)} layers {direction}{is_padded} (the "
            f"first: {wrong[0]}), expected a model whose attention transformers can change; {_REMEDY}"
        )


def _check_open_mask(backbone: PreTrainedModel, config: ModelConfig, mask_BL: Tensor) -> None:
    """The soft mask at its end gives the states of bidirectional attention, which are those of the exported model."""
    tokens, open_mask = _tokens(mask_BL), additive_mask(mask_BL, 1.0, backbone.dtype)
    soft, exported = (
        backbone(input_ids=tokens, attention_mask=mask).last_hidden_state[0, :_LENGTH] for mask in (open_mask, mask_BL)
    )
    rounding = 32 * torch.finfo(soft.dtype).eps
    if not (soft - exported).abs().max() <= max(1e-4, rounding) * exported.abs().max():
        raise ValueError(
            f"{_got(backbone, config)}, which with a mask of numbers gives other states than without, expected equal "
            "ones; set model.attention_mask: bidirectional"
        )


def _layer_calls(
    backbone: PreTrainedModel, mask_BL: Tensor, attention_mask: Tensor
) -> list[tuple[nn.Module, tuple[Any, ...], dict[str, Any]]]:
    """Each layer with the arguments that it gets in a forward."""
    calls: list[tuple[nn.Module, tuple[Any, ...], dict[str, Any]]] = []
    handles = [
        layer.register_forward_pre_hook(lambda *call: calls.append(call), with_kwargs=True)
        for layer in _layers(backbone)
    ]
    try:
        backbone(input_ids=_tokens(mask_BL), attention_mask=attention_mask)
    finally:
        for handle in handles:
            handle.remove()
    return calls


def _layers(backbone: PreTrainedModel) -> Sequence[nn.Module]:
    """The list of layers that lies the least deep; the longest of several."""
    lists = [
        (name, module) for name, module in backbone.named_modules() if isinstance(module, nn.ModuleList) and module
    ]
    return list(min(lists, key=lambda found: (found[0].count("."), -len(found[1])))[1]) if lists else []


def _reads_later_tokens(layer: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    """Whether the token before the last one gets another state when the last token's input is another.

    In float32: in half precision the change may be lost in the rounding of the state that it is added to.
    """
    if next(layer.parameters()).dtype != torch.float32:
        layer = copy.deepcopy(layer).float()
    args, kwargs = tree_map(_in_float32, (args, kwargs))
    state_BLD = args[0] if args else kwargs["hidden_states"]
    changed_BLD = state_BLD.clone()
    changed_BLD[:, _LENGTH - 1] = 1 - 2 * state_BLD[:, _LENGTH - 1].flip(-1)
    before, after = (_run(layer, state, args, kwargs)[:, _LENGTH - 2] for state in (state_BLD, changed_BLD))
    return bool((before - after).abs().max() > 1e-6 * before.abs().max())


def _run(layer: nn.Module, state_BLD: Tensor, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor:
    output = layer(state_BLD, *args[1:], **kwargs) if args else layer(**{**kwargs, "hidden_states": state_BLD})
    return output if isinstance(output, Tensor) else output[0]


def _in_float32(value: Any) -> Any:
    return value.float() if isinstance(value, Tensor) and value.is_floating_point() else value


def _mask(padding: int) -> Tensor:
    return torch.tensor([[1] * _LENGTH + [0] * padding])


def _tokens(mask_BL: Tensor) -> Tensor:
    return torch.arange(1, mask_BL.shape[1] + 1)[None] * mask_BL


def _got(backbone: PreTrainedModel, config: ModelConfig) -> str:
    kind = backbone.config.model_type
    return f"model.attention_mask: got {config.attention_mask} for {config.name_or_path} of type {kind}"
