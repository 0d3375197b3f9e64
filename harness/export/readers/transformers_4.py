"""transformers 4: the configuration's rotary positions, the tokenizer's class and special tokens.

Source: transformers 4.51.3 and 4.57.6, `modeling_rope_utils.py`, `configuration_*.py`, `tokenization_auto.py`,
`tokenization_utils_base.py`, `tokenization_llama_fast.py` (`update_post_processor`); run with both versions by
tests/readers. `use_bidirectional_attention` of Gemma came with 4.56 (pull request 40694 of transformers), `is_causal`
in config.json with 5.2.
"""

from __future__ import annotations

from typing import Any

from harness.export.read_by_all import NEW_TOKENIZER_CLASS, OWN_FRAME_IN_TRANSFORMERS_4, rope_of_transformers_4
from harness.export.readers.model_files import ModelFiles
from harness.export.readers.verdict import Findings, Reader, Verdict

READER = Reader("transformers 4", "4.51 to 4.57", "modeling_rope_utils.py, tokenization_utils_base.py of 4.57.6; run")
# What its configuration classes take where config.json has no such key.
_DEFAULTS: dict[str, dict[str, float]] = {
    "modernbert": {"global_rope_theta": 160_000.0, "local_rope_theta": 10_000.0},
    "gemma3_text": {"rope_theta": 1_000_000.0, "rope_local_base_freq": 10_000.0},
    "gpt_neox": {"rotary_emb_base": 10_000.0, "rotary_pct": 0.25},
}
_USUAL_DEFAULTS = {"rope_theta": 10_000.0}


def judge(files: ModelFiles) -> Verdict:
    """What transformers 4 makes of the backbone and the tokenizer. It knows nothing of pooling, head and prompts."""
    found = findings(files)
    if files.looks_both_ways_by_own_key:
        found.notes.append("before 4.56 a token does not see those after it: use_bidirectional_attention is not read")
    found.notes.append("reads backbone and tokenizer only: pooling, head and prompts are sentence-transformers'")
    return found.verdict(READER)


def findings(files: ModelFiles) -> Findings:
    """What it makes of the folder, for the readers that use it."""
    found = Findings()
    defaults = _USUAL_DEFAULTS | _DEFAULTS.get(str(files.config.get("model_type")), {})
    for key, value in rope_of_transformers_4(files.config).items():
        taken = files.config.get(key, defaults.get(key))
        if taken != value:
            found.differs.append(
                f"config.json: rotary positions: takes {key} {_in_words(taken)} instead of {_in_words(value)}, which "
                "stands in rope_parameters only"
            )
    if files.looks_both_ways:
        found.differs.append("config.json: is_causal: false is not read: a token does not see those after it")
    if files.tokenizer_config.get("tokenizer_class") == NEW_TOKENIZER_CLASS:
        found.refuses.append(f"tokenizer_config.json: no such class: {NEW_TOKENIZER_CLASS}")
    if isinstance(files.tokenizer_config.get("extra_special_tokens"), list):
        found.refuses.append("tokenizer_config.json: extra_special_tokens is a list, where an object is expected")
    if files.tokenizer_config.get("tokenizer_class") in OWN_FRAME_IN_TRANSFORMERS_4:
        _frame(files, found)
    return found


def _frame(files: ModelFiles, found: Findings) -> None:
    """The tokens before and behind a text, which some classes take from two settings and not from tokenizer.json."""
    post = files.tokenizer.get("post_processor") or {}
    templates = [part for part in post.get("processors", [post]) if part.get("type") == "TemplateProcessing"]
    parts = templates[-1]["single"] if templates else [{}]
    for where, part, key, default in (
        ("begin", parts[0], "add_bos_token", True),
        ("end", parts[-1], "add_eos_token", False),
    ):
        taken, right = bool(files.tokenizer_config.get(key, default)), "SpecialToken" in part
        if taken != right:
            found.differs.append(
                f"tokenizer_config.json: {files.tokenizer_config['tokenizer_class']} lets texts {where} with "
                f"{'a' if taken else 'no'} special token ({key}), against tokenizer.json"
            )


def _in_words(value: Any) -> str:
    return "nothing" if value is None else f"{value:g}" if isinstance(value, float | int) else str(value)
