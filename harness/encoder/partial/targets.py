"""Which linear layers of a backbone get an adapter: names by family for `auto`, every one for `all-linear`."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

from torch import nn
from transformers.pytorch_utils import Conv1D  # GPT-2's linear layer, whose weight is transposed

_BERT = ("query", "key", "value", "attention.output.dense", "intermediate.dense", "output.dense")
_LLAMA = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
_T5 = ("q", "k", "v", "o", "wi", "wi_0", "wi_1", "wo")
# By `model_type`: the linear layers of attention and feed-forward, as the classes of transformers name them.
_FAMILIES: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(
        ("bert", "roberta", "xlm-roberta", "xlm-roberta-xl", "camembert", "electra", "ernie", "data2vec-text"), _BERT
    ),
    **dict.fromkeys(
        (
            "llama", "mistral", "qwen2", "qwen3", "gemma", "gemma2", "gemma3_text", "ministral", "olmo2", "smollm3",
        ),
        _LLAMA,
    ),
    **dict.fromkeys(("t5", "mt5", "umt5"), _T5),
    "albert": ("query", "key", "value", "attention.dense", "ffn", "ffn_output"),
    "deberta-v2": ("query_proj", "key_proj", "value_proj", *_BERT[3:]),
    "distilbert": ("q_lin", "k_lin", "v_lin", "out_lin", "lin1", "lin2"),
    "gpt2": ("c_attn", "c_proj", "c_fc"),
    "gpt_neox": ("query_key_value", "attention.dense", "dense_h_to_4h", "dense_4h_to_h"),
    "modernbert": ("Wqkv", "Wo", "Wi"),
    "mpnet": ("attn.q", "attn.k", "attn.v", "attn.o", "intermediate.dense", "output.dense"),
    "phi3": ("qkv_proj", "o_proj", "gate_up_proj", "down_proj"),
}  # fmt: skip
_NUM_NAMED = 12


def target_names(backbone: nn.Module, model_type: str, wanted: str | Sequence[str]) -> list[str]:
    """The ends of the names of the linear layers that get an adapter. wanted: `model.lora.target_modules`.

    An unknown family gets them on every linear layer with `auto`, which a UserWarning says.

    Raises:
        ValueError: the backbone has no linear layer, or a name is the end of none.
    """
    linears = [name for name, module in backbone.named_modules() if isinstance(module, nn.Linear | Conv1D)]
    if not linears:
        raise ValueError(
            f"model.lora: got a backbone of type {model_type} without a linear layer, expected one; leave "
            "model.lora out"
        )
    if wanted == "auto" and model_type in _FAMILIES:
        return [end for end in _FAMILIES[model_type] if any(is_end(end, name) for name in linears)]
    if isinstance(wanted, str):
        ends = sorted({_without_numbers(name) for name in linears})
        if wanted == "auto":
            warnings.warn(
                f"model.lora.target_modules: auto does not know the family {model_type}: every linear layer gets an "
                f"adapter, as with all-linear ({_some(ends)}); name others if you want fewer",
                UserWarning,
                stacklevel=2,
            )
        return ends
    for end in wanted:
        if not any(is_end(end, name) for name in linears):
            raise ValueError(
                f"model.lora.target_modules: got {end}, the end of no linear layer's name, expected some of "
                f"{_some(sorted({_without_numbers(name) for name in linears}))}, auto or all-linear"
            )
    return list(wanted)


def is_end(end: str, name: str) -> bool:
    """Whether a module's name ends with these parts; peft decides so, too."""
    return name == end or name.endswith(f".{end}")


def _without_numbers(name: str) -> str:
    """What follows the last number in a module's name: the same for every layer of a list."""
    parts = name.split(".")
    numbers = [index for index, part in enumerate(parts) if part.isdigit()]
    return ".".join(parts[numbers[-1] + 1 :] if numbers and numbers[-1] + 1 < len(parts) else parts)


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:_NUM_NAMED]) + (f" and {len(names) - _NUM_NAMED} more" if len(names) > _NUM_NAMED else "")
