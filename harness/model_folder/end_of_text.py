"""The end token of a text, which models that pool the last token need: the same place in every text, and never cut off.

It is added by the tokenizer's own post-processor, so truncation leaves room for it, and every reader of tokenizer.json
(sentence-transformers, text-embeddings-inference, vLLM) adds it, too.
"""

from __future__ import annotations

import copy
import json
import warnings
from typing import TYPE_CHECKING, Any, Literal

from tokenizers import processors

from harness.model_folder.layout import Layout

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

AppendEos = Literal["auto"] | bool


def ends_texts(tokenizer: PreTrainedTokenizerBase) -> bool:
    """Whether the tokenizer puts a special token at the end of a text."""
    ids = tokenizer("a")["input_ids"]
    return bool(ids) and ids[-1] in {*tokenizer.all_special_ids, *tokenizer.get_added_vocab().values()}


def resolved(append: AppendEos, layout: Layout) -> AppendEos:
    """The recipe's `append_eos`, where `auto` leaves a sentence-transformers model as it was trained."""
    return False if append == "auto" and layout.pooling is not None else append


def append_end(tokenizer: PreTrainedTokenizerBase, name: str, *, is_required: bool = True) -> None:
    """Let the tokenizer end every text with its end token, if it ends texts with no special token yet.

    name: of the model, for messages. is_required: False: leave a tokenizer as it is that cannot do so.

    Raises:
        ValueError: it is required, but the tokenizer has no end token, or is written in Python.
    """
    if ends_texts(tokenizer):
        return
    problem = _problem(tokenizer)
    if problem is not None:
        if is_required:
            raise ValueError(
                f"model.append_eos: got true, but the tokenizer of {name} {problem}, expected one with tokenizer.json "
                "and an eos_token in tokenizer_config.json; add it, or set append_eos: false"
            )
        return
    backend, end = tokenizer.backend_tokenizer, (str(tokenizer.eos_token), int(tokenizer.eos_token_id))
    backend.post_processor = _with_end(backend.post_processor, *end)


def _with_end(own: Any, end: str, end_id: int) -> Any:
    """The post-processor that ends texts, too.

    A template that puts a token before texts gets the end itself: a second template would take what the first one has
    made of a text, that token and the text, for a pair of texts, and end both of them.
    """
    state = {} if own is None else json.loads(own.__getstate__())
    templates = [part for part in state.get("processors", [state]) if part.get("type") == "TemplateProcessing"]
    if not templates:
        template = processors.TemplateProcessing(
            single=f"$A {end}", pair=f"$A {end} $B:1 {end}:1", special_tokens=[(end, end_id)]
        )
        return template if own is None else processors.Sequence([own, template])
    for form, type_id in (("single", 0), ("pair", 1)):
        templates[-1][form].append({"SpecialToken": {"id": end, "type_id": type_id}})
    templates[-1]["special_tokens"][end] = {"id": end, "ids": [end_id], "tokens": [end]}
    changed = copy.deepcopy(own)
    changed.__setstate__(json.dumps(state).encode())
    return changed


def warn_of_end(tokenizer: PreTrainedTokenizerBase, name: str, append: AppendEos) -> None:
    """Say, of a model that pools the last token, what its texts end with if that is not what its tokenizer adds.

    Raises:
        ValueError: see `append_end`.
    """
    if ends_texts(tokenizer):
        return
    problem = _problem(tokenizer)
    if append is True:
        append_end(tokenizer, name)
    elif append == "auto" and problem is None:
        warnings.warn(
            f"model.append_eos: auto: the last token is pooled, and the tokenizer of {name} puts no special token at "
            f"the end of a text: {tokenizer.eos_token} is added to every text, and by the exported model, too; set "
            "append_eos: false to pool the last word",
            stacklevel=2,
        )
    else:
        way_out = "add the token to the tokenizer" if problem is not None else "set model.append_eos: true"
        warnings.warn(
            f"model.pooling: got last, but the tokenizer of {name} puts no special token at the end of a text: the "
            f"embedding is the state of its last word; {way_out} if the model was trained with one",
            stacklevel=2,
        )


def _problem(tokenizer: PreTrainedTokenizerBase) -> str | None:
    """Why no end token can be added; None if one can."""
    if tokenizer.eos_token is None or tokenizer.eos_token_id is None:
        return "has no end token"
    if not tokenizer.is_fast:
        return "is written in Python"
    return None
