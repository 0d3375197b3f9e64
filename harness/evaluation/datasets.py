"""Reads evaluation data from disk. The kind of a data set is recognised by its files and their columns:

| kind | files |
| --- | --- |
| retrieval | folder: corpus.jsonl `_id, title, text`; queries.jsonl `_id, text`; qrels/test.tsv (or the only .tsv) |
| | folder: corpus.jsonl `id, title, text`; test_queries.jsonl `id, text`; test_qrels.jsonl `qid, docid, relevance` |
| reranking | file: `query, positive, negative` (positive and negative: a text or a list of texts) |
| sts | file: `text1, text2, score` (or sentence1, sentence2) |
| classification | folder: a train and a test file of `text, label` |
| clustering | file: `text, label` |
| pair_classification | file: `text1, text2, label` (or sentence1, sentence2); label 1: the same, 0: not |

Files have any type that `harness.data.source.files` reads. For sts, reranking and pair_classification the path may also
be a folder that contains the file under the name test. Each kind's file in `kinds/` finds and reads its own data.
"""

from __future__ import annotations

from pathlib import Path

from harness.data.source.containers.table import is_saved_dataset
from harness.data.source.files import FILE_SUFFIXES
from harness.evaluation.kinds.table import KINDS, EvaluationData, EvaluationKind
from harness.evaluation.rows import first_row
from harness.settings.in_short import joined_in_short


def load_evaluation_data(path: str | Path) -> EvaluationData:
    """Read one evaluation data set.

    Raises:
        ValueError: the path does not exist, its layout is unknown, or a row is bad (`FILE:LINE: FIELD: got …`).
    """
    kind, files = data_files(path)
    return KINDS[kind].load(*files)


def data_files(path: str | Path) -> tuple[EvaluationKind, tuple[Path, ...]]:
    """The kind of a data set, and the files that it consists of.

    Raises:
        ValueError: the path does not exist, or its layout is unknown.
    """
    path = Path(path)
    if not path.exists():
        raise ValueError(
            f"{path}: got no such file or folder, expected evaluation data; name it relative to --data-root"
        )
    for name, kind in KINDS.items():
        if files := kind.files(path):
            return name, files
    raise ValueError(_unknown_layout(path))


def _unknown_layout(path: Path) -> str:
    columns = {name.replace("_", " "): kind.columns for name, kind in KINDS.items() if kind.columns}
    if path.is_file() and path.name.endswith(FILE_SUFFIXES):
        *others, last = (f"{names} ({kind})" for kind, names in columns.items())
        got = joined_in_short(first_row(path))
        return f"{path}: got columns {got}, expected {'; '.join(others)}; or {last}"
    if path.is_dir() and is_saved_dataset(path):
        return (
            f"{path}: got a folder saved by datasets, expected a file of one split; write it: "
            f'load_from_disk("{path}")["test"].to_parquet("test.parquet") (without ["test"] where it has no splits)'
        )
    children = joined_in_short(sorted(child.name for child in path.iterdir())[:8]) if path.is_dir() else path.name
    folders = ", ".join(kind.folder for kind in KINDS.values() if kind.folder)
    files = "; ".join(f"{kind}: {names}" for kind, names in columns.items())
    plain = [suffix for suffix in FILE_SUFFIXES if suffix.count(".") == 1]
    return (
        f"{path}: got {children or 'an empty folder'}, expected {folders}, or a file ending in "
        f"{', '.join(plain)}, or one of them packed ({files})"
    )
