"""sentence-transformers 3, 5 and 6: the modules of modules.json, each made from the keys of its configuration.

Source: `load` and `__init__` of `sentence_transformers/models/` in 3.4.1 and 5.1.2, which take no key that they do not
know, and of `sentence_transformers/base/modules/` in 6.2.0; all three run by tests/readers.
"""

from __future__ import annotations

from functools import partial

from harness.export.readers import transformers_4
from harness.export.readers.model_files import OLD_MODULE, ModelFiles, kind_of
from harness.export.readers.verdict import Findings, Reader, Verdict
from harness.model_folder.pooling import POOLINGS

_NAME = "sentence-transformers"
_V3 = Reader(f"{_NAME} 3", "3.4.1", "sentence_transformers/models/*.py; run with transformers 4.51.3")
_V5 = Reader(f"{_NAME} 5", "5.1.2", "sentence_transformers/models/*.py; run with transformers 4.57.6")
_V6 = Reader(f"{_NAME} 6", "6.2.0", "sentence_transformers/base/modules/*.py; run with transformers 5.23.0")

_FLAGS = {pooling.legacy_flag for pooling in POOLINGS.values()}
_TOKENS = {"max_seq_length", "model_args", "tokenizer_args", "config_args", "cache_dir", "do_lower_case", "backend"}
# The arguments of each class's __init__; any other key ends in a TypeError.
_KNOWN_KEYS = {
    "Transformer": {*_TOKENS, "tokenizer_name_or_path"},
    "Pooling": {"word_embedding_dimension", "pooling_mode", "include_prompt", *_FLAGS},
    "Dense": {"in_features", "out_features", "bias", "activation_function"},
    "LayerNorm": {"dimension"},
    "Dropout": {"dropout"},
}


def _judge_old(files: ModelFiles, *, reader: Reader, needs_length_file: bool) -> Verdict:
    """needs_length_file: whether it fails without sentence_bert_config.json."""
    found = Findings()
    for module in files.modules:
        if not str(module["type"]).startswith(OLD_MODULE):
            found.refuses.append(f"modules.json: no module named {str(module['type']).rsplit('.', 1)[0]}")
    for module in files.modules:
        kind = kind_of(module)
        settings = files.length_settings if kind == "Transformer" else files.settings_of(module)
        # 3.4.1 does not open the file of Normalize; what 5.1.2 finds there, it hands to a class that takes nothing.
        known = _KNOWN_KEYS.get(kind, set(settings or ()) if needs_length_file else set())
        if unknown := sorted((settings or {}).keys() - known):
            found.refuses.append(f"{kind}: unexpected keyword {unknown[0]}")
        if kind == "Pooling" and "word_embedding_dimension" not in (settings or {}):
            found.refuses.append("Pooling: missing keyword word_embedding_dimension")
    if files.modules and needs_length_file and files.length_settings is None:
        found.refuses.append("no sentence_bert_config.json")
    if not files.modules:
        takes_mean = "no modules.json: takes the mean of the tokens' states"
        if files.pooling == ("mean",):
            found.notes.append(takes_mean)
        else:
            found.differs.append(f"{takes_mean}, not the {files.pooling[0]} one, as later versions of it do")
    found.add(transformers_4.findings(files), "transformers 4: ")
    if reader is _V3 and files.looks_both_ways_by_own_key:
        found.differs.append(
            "transformers 4.51.3: use_bidirectional_attention is not read: a token does not see those after"
        )
    return found.verdict(reader)


def _judge_new(files: ModelFiles) -> Verdict:
    """It reads both layouts, and so does this project: what the folder means is what both read."""
    found = Findings()
    if not files.has_tokenizer:
        found.refuses.append("no tokenizer beside the weights")
    if not files.modules and files.has_chat_template:
        found.differs.append("no modules.json: every text is put into the tokenizer's chat template")
    if files.layout.prompts.keys() & {"passage", "corpus"} and not files.layout.prompts.get("document"):
        found.differs.append("encode_document puts nothing before a document: it takes the prompt document only")
    return found.verdict(_V6)


judge_3 = partial(_judge_old, reader=_V3, needs_length_file=True)
judge_5 = partial(_judge_old, reader=_V5, needs_length_file=False)
judge_6 = _judge_new
