"""llama.cpp's converter to GGUF: the pooling type, and no projection but EmbeddingGemma's.

Source: ggml-org/llama.cpp, convert_hf_to_gguf.py (`_try_set_pooling_type`) before 00bd27a.
Read, not run.
"""

from __future__ import annotations

from harness.export.readers.model_files import OLD_MODULE, ModelFiles
from harness.export.readers.verdict import Findings, Reader, Verdict

READER = Reader("llama.cpp", "converter before 00bd27a", "convert_hf_to_gguf.py, _try_set_pooling_type; read")
# In the order of the questions. A key that is missing ends in a KeyError where it is asked for.
_QUESTIONS = {"pooling_mode_mean_tokens": "mean", "pooling_mode_cls_token": "cls", "pooling_mode_lasttoken": "last"}


def judge(files: ModelFiles) -> Verdict:
    """What the converter writes of the folder."""
    found = Findings()
    _pooling(files, found)
    if files.dense and files.config.get("model_type") != "gemma3_text":
        found.differs.append("the projection (Dense) is dropped: the vector is the pooled one, before it")
    elif files.dense:
        found.notes.append("converts the projection (Dense) only with --sentence-transformers-dense-modules")
    if files.norms:
        found.differs.append("LayerNorm after the pooling is dropped")
    if files.looks_both_ways:
        found.differs.append("is_causal: false is not kept: run llama-server with --attention non-causal")
    if files.layout.lower_case:
        found.differs.append("do_lower_case is not read: texts are not lower-cased")
    if files.prompts:
        found.notes.append("keeps no prompts: send the prompt as part of the text")
    if files.layout.normalize is False:
        found.notes.append("gives vectors of length 1 unless --embd-normalize -1 is set")
    found.notes.append("refuses a tokenizer whose splitting of words it does not know; that is not tried here")
    return found.verdict(READER)


def _pooling(files: ModelFiles, found: Findings) -> None:
    if not any(module["type"] == f"{OLD_MODULE}Pooling" for module in files.modules):
        pooling = " + ".join(files.pooling)
        found.differs.append(f"writes no pooling type: llama-server has to be told --pooling {pooling}")
        return
    for key, mode in _QUESTIONS.items():
        if key not in files.pooling_settings:
            found.refuses.append(f"1_Pooling/config.json: KeyError {key}")
            return
        if files.pooling_settings[key]:
            if (mode,) != files.pooling:
                found.differs.append(f"takes the pooling {mode} instead of {' + '.join(files.pooling)}")
            return
    found.refuses.append(f"pooling {' + '.join(files.pooling)}: only mean, cls and last are supported")
