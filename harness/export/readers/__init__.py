"""What other programs make of a model folder, from small emulations of what each of them reads. Each has a file.

No reader is installed or started here, so an emulation is as good as the version that it was read from, which every
verdict names; tests/readers starts some of them. To add a reader: a file with a function from `ModelFiles` to a
`Verdict`, and a line in `READERS`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from harness.export.readers import (
    llama_cpp,
    mteb,
    sentence_transformers,
    text_embeddings_inference,
    transformers_4,
    vllm,
)
from harness.export.readers.model_files import ModelFiles
from harness.export.readers.verdict import Verdict

READERS: dict[str, Callable[[ModelFiles], Verdict]] = {
    "sentence-transformers-3": sentence_transformers.judge_3,
    "sentence-transformers-5": sentence_transformers.judge_5,
    "sentence-transformers-6": sentence_transformers.judge_6,
    "text-embeddings-inference": text_embeddings_inference.judge,
    "vllm-old": vllm.judge_old,
    "vllm": vllm.judge_new,
    "llama.cpp": llama_cpp.judge,
    "mteb": mteb.judge,
    "transformers-4": transformers_4.judge,
}
# (sentence-transformers, transformers) that exports were loaded with and compared; tests/readers does it again.
TRIED = (("3.4.1", "4.51.3"), ("5.1.2", "4.57.6"), ("6.2.0", "5.23.0"))


def judge_folder(folder: Path, readers: Sequence[str] = ()) -> list[Verdict]:
    """What each reader makes of a model folder. readers: names of `READERS`; empty: all.

    Raises:
        ValueError: no such reader, or a folder that this project cannot read itself, so that nothing can be compared.
    """
    for name in readers:
        if name not in READERS:
            raise ValueError(f"--reader: got {name}, expected one of {', '.join(READERS)}")
    files = ModelFiles.of(folder)
    return [judge(files) for name, judge in READERS.items() if not readers or name in readers]


def owner_only(folder: Path) -> list[str]:
    """Files that only their owner can read: a server that runs as somebody else cannot open them."""
    files = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return [path.relative_to(folder).as_posix() for path in files if not path.stat().st_mode & 0o044]
