"""mteb: loads with the installed sentence-transformers, and takes prompts by its own names.

Source: mteb 2.26.24, models/abs_encoder.py (validate_task_to_prompt_name, get_prompt_name),
models/sentence_transformer_wrapper.py; run by tests/unit/evaluation/test_mteb.py.
"""

from __future__ import annotations

from harness.export.readers.model_files import ModelFiles
from harness.export.readers.verdict import Findings, Reader, Verdict
from harness.prompts.model_prompts import OLD_SENTENCE_NAME, SENTENCE_NAME_OF_KIND

READER = Reader("mteb", "2.26.24", "mteb/models/abs_encoder.py, sentence_transformer_wrapper.py; run")
_ROLES = ("query", "document")
_TASK_TYPES = {
    "BitextMining", "Classification", "Clustering", "InstructionReranking", "InstructionRetrieval",
    "MultilabelClassification", "PairClassification", "Regression", "Reranking", "Retrieval", "STS", "Summarization",
}  # fmt: skip


def judge(files: ModelFiles) -> Verdict:
    """Which prompts mteb uses. Everything else is the installed sentence-transformers'."""
    found, prompts = Findings(), files.prompts
    sentence = prompts.get(OLD_SENTENCE_NAME)
    missing = [name for name in SENTENCE_NAME_OF_KIND.values() if name not in files.layout.prompts]
    if sentence and missing:
        found.differs.append(f"prompts: {OLD_SENTENCE_NAME} is no name of mteb's: {', '.join(missing)} get no prompt")
    for name in ("passage", "corpus"):
        if prompts.get(name) and not prompts.get("document"):
            found.differs.append(f"prompts: {name} is no name of mteb's: documents get no prompt")
    others = [name for name in prompts if not _is_known(name) and name not in (OLD_SENTENCE_NAME, "passage", "corpus")]
    if others:
        found.notes.append(f"drops the prompts {', '.join(others)}, with a warning, unless tasks of mteb are called so")
    if files.layout.default_prompt_name:
        found.notes.append(f"puts {files.layout.default_prompt_name} before texts of tasks that have no prompt")
    found.notes.append("loads with the installed sentence-transformers: see its row")
    return found.verdict(READER)


def _is_known(name: str) -> bool:
    """A role, a type of task, or a type and a role with a hyphen between them."""
    base, _, role = name.rpartition("-")
    return name in _ROLES or name in _TASK_TYPES or (base in _TASK_TYPES and role in _ROLES)
