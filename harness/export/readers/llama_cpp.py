"""llama.cpp's converter to GGUF: the pooling type, which architectures it knows, and no projection but Gemma 3's.

Source: ggml-org/llama.cpp 0c1e570 (as in llama-cpp-python 0.3.36), read, and v0.5.0 (as in node-llama-cpp 3.22.1),
whose converter and llama-embedding are run by tests/readers:
- conversion/base.py (_try_set_pooling_type, set_gguf_parameters), conversion/__init__.py (TEXT_MODEL_MAP), bert.py,
  qwen.py, llama.py, gemma.py (EmbeddingGemma): convert_hf_to_gguf.py is only their command line by now;
- gguf-py/gguf/vocab.py (_parse_normalizer), src/llama-vocab.cpp, src/llama-context.cpp, src/models/gemma-embedding.cpp,
  tools/server/server-context.cpp: what is done with it.
4227c9b (2025-08, llama-cpp-python 0.3.16) knows only the old names, stops where a flag of Pooling is missing, takes no
`is_causal`, and lower-cases every WordPiece text; the names of sentence-transformers 5.4 came with pull request 22087
(2026-04). That version is read, not run.
"""

from __future__ import annotations

from typing import Any

from harness.export.read_by_all import joins_blanks
from harness.export.readers.model_files import ModelFiles, kind_of
from harness.export.readers.verdict import Findings, Reader, Verdict

READER = Reader(
    "llama.cpp", "0.5.0 to 0c1e570", "conversion/base.py, bert.py, qwen.py, gemma.py, src/llama-vocab.cpp; 0.5.0 run"
)
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
# Encoders whose layers it computes with gelu, whatever config.json says, and the key in which that stands.
_ALWAYS_GELU = {
    "bert": "hidden_act", "camembert": "hidden_act", "distilbert": "activation", "roberta": "hidden_act",
    "xlm-roberta": "hidden_act",
}  # fmt: skip
_NORM_NAMES = ("layer_norm_eps", "layer_norm_epsilon", "norm_epsilon")
_DENSE_OF_GEMMA = ("2_Dense", "3_Dense")


def judge(files: ModelFiles) -> Verdict:
    """What the converter writes of the folder, and llama-server makes of that."""
    found = Findings()
    _architecture(files, found)
    _pooling(files, found)
    _layers(files, found)
    _projection(files, found)
    _word_pieces(files, found)
    _other_pieces(files, found)
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
    found.notes.append(
        "computes gelu by its tanh approximation from a table in half precision: numbers move by up to 1e-3"
    )
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


def _layers(files: ModelFiles, found: Findings) -> None:
    """What it takes for granted in the layers."""
    key = _ALWAYS_GELU.get(files.model_type, "")
    activation = str(files.config.get(key, "gelu"))
    if key and not activation.startswith("gelu"):
        found.differs.append(f"config.json: {key}: {activation} is not read: layers are computed with gelu")
    if files.model_type == "modernbert" and not any(name in files.config for name in _NORM_NAMES):
        found.refuses.append("config.json: no layer_norm_eps: llama.cpp does not load the GGUF file; export again")
    layers = files.config.get("layer_types")
    if files.model_type == "gemma3_text" and layers:
        expected = ["sliding_attention" if (i + 1) % 6 else "full_attention" for i in range(len(layers))]
        if "full_attention" not in expected:
            found.refuses.append("config.json: fewer than six layers: llama.cpp ends with an error")
        elif layers != expected:
            found.differs.append(
                "config.json: layer_types is not read: every sixth layer sees all, the others a window"
            )


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


def _word_pieces(files: ModelFiles, found: Findings) -> None:
    """BERT's tokens."""
    if files.layout.lower_case:
        found.differs.append("do_lower_case is not read: texts are not lower-cased")
    model, normalizer = files.tokenizer.get("model") or {}, files.tokenizer.get("normalizer")
    if files.model_type not in _WORD_PIECES or model.get("type") != "WordPiece":
        return
    lowers = _lower_cases(normalizer)
    if lowers is None:
        found.differs.append("tokenizer.json says nothing of lower-casing: texts are lower-cased")
    elif not lowers:
        found.notes.append(
            "a llama.cpp from before 2026-06 lower-cases the texts or strips accents, which this tokenizer does not"
        )
    if lowers is not False:
        found.notes.append(
            "strips accents in its own way: of a Korean syllable only the first consonant is left, of Indic scripts no "
            "vowel signs; do not use it for these languages"
        )
    found.notes.append("cuts words of more than 100 characters into pieces, where the tokenizer gives one [UNK]")


def _other_pieces(files: ModelFiles, found: Findings) -> None:
    """Tokens of tokenizers made with sentencepiece, and of those that compose accents."""
    model, normalizer = files.tokenizer.get("model") or {}, files.tokenizer.get("normalizer") or {}
    says_so = files.has("sentencepiece.bpe.model") or files.tokenizer_config.get("clean_up_tokenization_spaces")
    if files.model_type == "xlm-roberta" and joins_blanks(files.tokenizer) and not says_so:
        found.differs.append(
            "tokenizer_config.json: no clean_up_tokenization_spaces: true, which it takes for: several blanks are one; "
            "export again"
        )
    if model.get("byte_fallback") and not files.has("tokenizer.model"):
        if files.model_type == "gemma3_text":
            found.refuses.append(
                "no tokenizer.model: the splitting of words is not known; copy it from the first model"
            )
        else:
            found.differs.append("no tokenizer.model: pieces are joined in another order; copy it from the first model")
    parts = [part.get("type") for part in normalizer.get("normalizers", [normalizer])]
    if model.get("type") == "BPE" and any(part in ("NFC", "NFKC") for part in parts):
        found.notes.append("does not compose accents: give it texts in the Unicode form NFC")


def _lower_cases(normalizer: dict[str, Any] | None) -> bool | None:
    """Whether tokenizer.json says that texts are lower-cased, as the converter reads it; None: it says nothing."""
    kind = (normalizer or {}).get("type")
    if normalizer is None or kind not in ("Lowercase", "BertNormalizer", "Sequence"):
        return None
    if kind != "Sequence":
        return True if kind == "Lowercase" else normalizer.get("lowercase")
    said = [said for part in normalizer.get("normalizers", []) if (said := _lower_cases(part)) is not None]
    return said[-1] if said else None
