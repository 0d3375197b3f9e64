"""llama.cpp's converter to GGUF: the pooling type, which architectures it knows, and no projection but Gemma 3's.

Source: ggml-org/llama.cpp 0c1e570 (as in llama-cpp-python 0.3.36):
- conversion/base.py (_try_set_pooling_type, set_gguf_parameters), conversion/__init__.py (TEXT_MODEL_MAP), bert.py,
  qwen.py, llama.py, gemma.py (EmbeddingGemma): convert_hf_to_gguf.py is only their command line by now;
- gguf-py/gguf/vocab.py (_parse_normalizer), src/llama-vocab.cpp, src/llama-context.cpp, src/models/gemma-embedding.cpp,
  tools/server/server-context.cpp: what is done with it.
4227c9b (2025-08, llama-cpp-python 0.3.16) knows only the old names, stops where a flag of Pooling is missing, takes no
`is_causal`, and lower-cases every WordPiece text; the names of sentence-transformers 5.4 came with pull request 22087
(2026-04). Read, not run.
"""

from __future__ import annotations

from typing import Any

from harness.export.readers.model_files import ModelFiles, kind_of
from harness.export.readers.verdict import Findings, Reader, Verdict

READER = Reader("llama.cpp", "0c1e570", "conversion/base.py, bert.py, qwen.py, gemma.py, src/llama-vocab.cpp; read")
# In the order of the questions.
_QUESTIONS = {"pooling_mode_mean_tokens": "mean", "pooling_mode_cls_token": "cls", "pooling_mode_lasttoken": "last"}
_NAMES = {"mean": "mean", "cls": "cls", "lasttoken": "last"}
# Architectures without a language head that it converts, and those of them whose pooling type it writes.
_WITH_POOLING = {
    "BertModel", "CamembertModel", "DistilBertModel", "EuroBertModel", "Gemma3TextModel", "JinaBertModel",
    "Lfm2BidirectionalModel", "ModernBertModel", "NomicBertModel", "Qwen2Model", "Qwen3Model", "RobertaModel",
    "XLMRobertaModel",
}  # fmt: skip
_CONVERTED = _WITH_POOLING | {"BloomModel", "Lfm2Model", "LlamaBidirectionalModel", "LlamaModel", "T5EncoderModel"}
_OF_2025 = {
    "BertModel", "CamembertModel", "DistilBertModel", "JinaBertModel", "NomicBertModel", "Qwen2Model", "RobertaModel",
    "XLMRobertaModel",
}  # fmt: skip
_WORD_PIECES = {"bert", "distilbert", "nomic_bert"}
_DENSE_OF_GEMMA = ("2_Dense", "3_Dense")


def judge(files: ModelFiles) -> Verdict:
    """What the converter writes of the folder, and llama-server makes of that."""
    found = Findings()
    _architecture(files, found)
    _pooling(files, found)
    _projection(files, found)
    _tokens(files, found)
    if files.norms:
        found.differs.append("LayerNorm after the pooling is dropped")
    if files.prompts:
        found.notes.append("keeps no prompts: send the prompt as part of the text")
    if files.layout.max_length is not None:
        found.notes.append(
            f"does not shorten texts to {files.layout.max_length} tokens: one longer than --ubatch-size (512 unless "
            "set) ends in an error"
        )
    if files.layout.normalize is False:
        found.notes.append("gives vectors of length 1 unless --embd-normalize -1 is set")
    found.notes.append("refuses a tokenizer whose splitting of words it does not know; that is not tried here")
    return found.verdict(READER)


def _architecture(files: ModelFiles, found: Findings) -> None:
    """The first of `architectures` chooses the converter; a name with a language head is not judged here."""
    name = next(iter(files.config.get("architectures") or ()), None)
    if name is None:
        found.refuses.append("config.json: no architectures")
    elif str(name).endswith("Model") and name not in _CONVERTED:
        found.refuses.append(f"config.json: Model {name} is not supported")
    elif str(name).endswith("Model") and name not in _OF_2025:
        found.notes.append(f"4227c9b (2025-08) does not know {name}")
    if files.looks_both_ways:
        found.notes.append("is_causal: false is kept; a converter of 2025 drops it: there set --attention non-causal")
    if files.model_type == "gemma3_text" and not files.looks_both_ways_by_own_key:
        found.differs.append("a token sees those after it: every Gemma3TextModel is taken for a bidirectional one")


def _pooling(files: ModelFiles, found: Findings) -> None:
    right, name = " + ".join(files.pooling), next(iter(files.config.get("architectures") or ()), "")
    if not any(kind_of(module) == "Pooling" for module in files.modules) or (
        name in _CONVERTED and name not in _WITH_POOLING
    ):
        found.differs.append(f"writes no pooling type: llama-server has to be told --pooling {right}")
        return
    settings = files.pooling_settings
    taken = next((mode for key, mode in _QUESTIONS.items() if settings.get(key)), None)
    named = settings.get("pooling_mode")
    if taken is None and isinstance(named, str):
        taken = _NAMES.get(named)
    if taken is None:
        found.refuses.append(f"pooling {right}: only mean, cls and last are supported")
    elif (taken,) != files.pooling:
        found.differs.append(f"takes the pooling {taken} instead of {right}")


def _projection(files: ModelFiles, found: Findings) -> None:
    if files.dense and files.model_type != "gemma3_text":
        found.differs.append("the projection (Dense) is dropped: the vector is the pooled one, before it")
        return
    for module in files.modules:
        if kind_of(module) != "Dense":
            continue
        settings, place = files.settings_of(module), module["path"]
        found.notes.append("converts the projection (Dense) only with --sentence-transformers-dense-modules")
        if place not in _DENSE_OF_GEMMA:
            found.differs.append(f"{place}: a projection is taken from {' and '.join(_DENSE_OF_GEMMA)} only")
        if settings.get("bias", True):
            found.differs.append(f"{place}: the projection's bias is dropped")
        if "Identity" not in str(settings.get("activation_function") or "Tanh"):
            found.differs.append(f"{place}: the projection's activation is dropped")


def _tokens(files: ModelFiles, found: Findings) -> None:
    if files.layout.lower_case:
        found.differs.append("do_lower_case is not read: texts are not lower-cased")
    model = files.tokenizer.get("model") or {}
    if files.model_type not in _WORD_PIECES or model.get("type") != "WordPiece":
        return
    lowers = _lower_cases(files.tokenizer.get("normalizer"))
    if lowers is None:
        found.differs.append("tokenizer.json says nothing of lower-casing: texts are lower-cased")
    elif not lowers:
        found.notes.append("a llama.cpp of 2025 lower-cases the texts, which this tokenizer does not")


def _lower_cases(normalizer: dict[str, Any] | None) -> bool | None:
    """Whether tokenizer.json says that texts are lower-cased, as the converter reads it; None: it says nothing."""
    kind = (normalizer or {}).get("type")
    if normalizer is None or kind not in ("Lowercase", "BertNormalizer", "Sequence"):
        return None
    if kind != "Sequence":
        return True if kind == "Lowercase" else normalizer.get("lowercase")
    said = [said for part in normalizer.get("normalizers", []) if (said := _lower_cases(part)) is not None]
    return said[-1] if said else None
