"""Writes a trained encoder as a folder that sentence-transformers and servers load, and compares folder and encoder.

model/  config.json, model.safetensors, tokenizer   1_Pooling/   2_Dense/ (with a projection)   3_Normalize/   README.md
"""

from __future__ import annotations

import copy
import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Normalize, Pooling, Transformer
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from harness.data.table.tokenisation import Tokeniser
from harness.encoder.attention.direction import as_adapter_says
from harness.encoder.config import ModelConfig
from harness.encoder.encoder import Encoder
from harness.encoder.partial.adapter import write_adapter
from harness.export.read_by_all import rewrite_for_all_readers
from harness.files import replace_folder, unfinished_folder
from harness.model_folder.layout import read_layout
from harness.model_folder.pooling import POOLINGS
from harness.prompts import ModelPrompts
from harness.prompts.names_of_others import with_names_of_others

TOLERANCE = 1e-5
_SETTINGS = "tokenizer_config.json"  # some classes count it among the files of their vocabulary


def write_model(
    out: Path,
    encoder: Encoder,
    state: dict[str, Tensor],
    tokenizer: PreTrainedTokenizerBase,
    config: ModelConfig,
    *,
    prompts: ModelPrompts,
    card: str,
    adapter_base: str | None = None,
    check: Callable[[Path], None] = lambda written: None,
) -> Path | None:
    """Write a sentence-transformers folder, each weight once. It replaces `out` when all is written and checked.

    state: all weights of the encoder (not one rank's part of them), float32. card: the text of README.md. adapter_base:
    write the encoder's adapter in place of the backbone's weights; peft shall find these there. check: called with
    the written folder before it replaces `out`; what it raises leaves `out` as it was.

    Returns where an earlier `out` is kept because of files that are not the model's, else None.
    """
    with unfinished_folder(out) as temporary:
        _write_files(
            temporary, encoder, state, tokenizer, config, prompts=prompts, card=card, adapter_base=adapter_base
        )
        check(temporary)
        return replace_folder(temporary, out)


def _write_files(
    temporary: Path,
    encoder: Encoder,
    state: dict[str, Tensor],
    tokenizer: PreTrainedTokenizerBase,
    config: ModelConfig,
    *,
    prompts: ModelPrompts,
    card: str,
    adapter_base: str | None,
) -> None:
    if adapter_base is None:
        _write_backbone(temporary, encoder, state, tokenizer)
    else:
        temporary.mkdir(parents=True)
        encoder.backbone.config.save_pretrained(temporary)
        tokenizer.save_pretrained(temporary)
    modules: list[nn.Module] = [_transformer(temporary, config, encoder), _pooling(encoder), *_head(encoder, state)]
    if encoder.normalize:
        modules.append(Normalize())
    stored, default = dict(with_names_of_others(prompts).named) or None, prompts.default_name
    model = SentenceTransformer(
        modules=modules, device="cpu", prompts=stored, default_prompt_name=default, similarity_fn_name="cosine"
    )
    model.save_pretrained(str(temporary), create_model_card=False)
    _keep_vocabulary(temporary, tokenizer)
    rewrite_for_all_readers(
        temporary,
        pooling=encoder.pooling_modes,
        token_dim=encoder.pooled_dim // len(encoder.pooling_modes),
        include_prompt=encoder.layout.include_prompt,
        max_length=config.longest_text,
        matryoshka_dims=config.matryoshka_dims,
        model_input_names=tokenizer.model_input_names,
    )
    if adapter_base is not None:  # last, for with it sentence-transformers would look for the model that it changes
        _write_adapter(temporary, encoder, state, config, adapter_base)
    (temporary / "README.md").write_text(card, encoding="utf-8")
    _give_all_one_mode(temporary)


def _write_adapter(
    folder: Path, encoder: Encoder, state: dict[str, Tensor], config: ModelConfig, adapter_base: str
) -> None:
    """The adapter, and in place of a config.json what the recipe has changed in it."""
    (folder / "config.json").unlink()  # with which transformers takes the folder for a model with weights
    write_adapter(folder, encoder.adapter, state, adapter_base)
    mask = as_adapter_says(config, encoder.layout).attention_mask
    if mask is not None:
        _change_json(folder / "sentence_bert_config.json", config_args={"is_causal": mask == "causal"})


def verify_model(
    out: Path, texts: Sequence[str], expected_BD: np.ndarray, config: ModelConfig, final: Path | None = None
) -> float:
    """Reload the folder with sentence-transformers and compare its embeddings of `texts` with the expected ones.

    expected_BD: embeddings of the trained encoder, unnormalised; normalised here if the folder normalises. final: the
    name that the folder will have, for the message. Returns the largest absolute difference.

    Raises:
        ValueError: the difference exceeds 1e-5.
    """
    model = SentenceTransformer(str(out), device="cpu", trust_remote_code=config.trust_remote_code)
    embedding_BD = model.encode(list(texts), convert_to_numpy=True, show_progress_bar=False, prompt="")
    expected = expected_BD.astype(np.float64)
    if read_layout(out).normalize:
        expected /= np.maximum(np.linalg.norm(expected, axis=1, keepdims=True), 1e-12)
    difference = float(np.abs(embedding_BD - expected).max())
    if not difference <= TOLERANCE:
        raise ValueError(
            f"{final or out}: got embeddings that differ from the training model's by {difference:.1e}, expected at "
            f"most {TOLERANCE:.0e}; do not use this export"
        )
    return difference


def embed_on_cpu(encoder: Encoder, tokeniser: Tokeniser, texts: Sequence[str], max_length: int) -> np.ndarray:
    """Embeddings [B, D] of a few texts on the CPU in float32, without a prompt.

    Does not use `search.TextEncoder`, which calls collectives: rank 0 may call this alone.
    """
    batch = tokeniser.pad(tokeniser.encode(texts, max_length))
    with torch.no_grad():
        return encoder.float().cpu().eval()(*batch.on(torch.device("cpu"))).float().numpy()


def _write_backbone(
    folder: Path, encoder: Encoder, state: dict[str, Tensor], tokenizer: PreTrainedTokenizerBase
) -> None:
    weights = {
        name.removeprefix("backbone."): value.contiguous()
        for name, value in state.items()
        if name.startswith("backbone.")
    }
    weights |= encoder.unused_backbone_state
    folder.mkdir(parents=True)
    encoder.backbone.save_pretrained(folder, state_dict=weights)
    # save_pretrained takes the type of the module's weights, which may be trained in half precision, for that of these.
    _change_json(folder / "config.json", dtype="float32")
    tokenizer.save_pretrained(folder)


def _keep_vocabulary(folder: Path, tokenizer: PreTrainedTokenizerBase) -> None:
    """Copy tokenizer.model, if the tokenizer came with one, and the vocabulary's files of a tokenizer in Python.

    transformers 5 does not save tokenizer.model. llama.cpp's converter needs it: it refuses Gemma without, and lets
    Llama's tokenizer join other pieces, for tokenizer.json does not give it their scores. A class in Python may write
    what it cannot read: BertweetTokenizer leaves out a column, and reads merges without their ends.
    """
    own = () if tokenizer.is_fast else (name for name in tokenizer.vocab_files_names.values() if name != _SETTINGS)
    for name in ("tokenizer.model", *own):
        file = Path(tokenizer.name_or_path) / name
        if file.is_file():
            shutil.copyfile(file, folder / name)


class _Architecture(nn.Module):
    """What sentence-transformers asks of a backbone whose weights it shall neither load, nor move, nor write."""

    def __init__(self, backbone: PreTrainedModel) -> None:
        super().__init__()
        self.config, self.forward = backbone.config, backbone.forward


def _transformer(folder: Path, config: ModelConfig, encoder: Encoder) -> Transformer:
    """The first module of the folder, whose backbone is written already."""

    class Written(Transformer):
        def _load_model(self, *_: Any, **__: Any) -> Any:
            return _Architecture(encoder.backbone)

        def save(self, output_path: str, *_: Any, **__: Any) -> None:
            self.processor.save_pretrained(output_path)
            self.save_config(output_path)

    # modules.json names the class, and readers know only this one.
    Written.__module__, Written.__name__ = Transformer.__module__, Transformer.__name__
    trust: dict[str, Any] = {"trust_remote_code": config.trust_remote_code}
    # Without these two, a tokenizer with a chat template would put every text into that template.
    plain_text: Any = {"text": {"method": "forward", "method_output_name": "last_hidden_state"}}
    return Written(
        str(folder),
        max_seq_length=config.longest_text,
        config_kwargs=trust,
        processor_kwargs=trust,
        modality_config=plain_text,
        module_output_name="token_embeddings",
    )


def _give_all_one_mode(folder: Path) -> None:
    """Let everybody read what the umask lets them: safetensors writes files that only their owner can read."""
    mode = (folder / "README.md").stat().st_mode  # written by Python, which obeys the umask
    for path in folder.rglob("*"):
        if path.is_file():
            path.chmod(mode)


def _change_json(path: Path, **changes: Any) -> None:
    settings = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps(settings | changes, indent=2), encoding="utf-8")


def _pooling(encoder: Encoder) -> Pooling:
    modes = [POOLINGS[mode].sentence_transformers_name for mode in encoder.pooling_modes]
    dim = encoder.pooled_dim // len(modes)
    return Pooling(dim, modes[0] if len(modes) == 1 else modes, include_prompt=encoder.layout.include_prompt)


def _head(encoder: Encoder, state: dict[str, Tensor]) -> list[nn.Module]:
    """Copies of the head's modules with the weights of `state`. Under ZeRO-3 those of the encoder itself are empty."""
    modules: Any = encoder.head
    head = nn.ModuleList(
        type(module)(**{key: copy.deepcopy(getattr(module, key)) for key in module.config_keys}) for module in modules
    )
    weights = {name.removeprefix("head."): w for name, w in state.items() if name.startswith("head.")}
    head.load_state_dict(weights, assign=True)
    return list(head)
