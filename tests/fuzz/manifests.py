"""The files that say what a bank, a cache folder, a checkpoint or a run holds: their text, changed and damaged."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import strategies as st

from harness.data.bank.file import FACTS, BankFacts
from harness.data.config import TaskConfig
from harness.data.data_config import DataConfig
from harness.data.table.index import META_FILE, open_task
from harness.data.table.tokenisation import Tokeniser
from harness.engine.checkpoint import (
    ARRAYS,
    MANIFEST,
    STATE,
    Checkpoint,
    Checkpoints,
    find_damage,
    kept_states,
    read_arrays,
    resolve_pointer,
)
from harness.report.metrics_file import EvaluationFile, MetricsFile
from harness.report.run_file import RunFile
from tests.fuzz.judgement import Find, judge
from tests.fuzz.target import Target
from tests.fuzz.values import as_json, changed_tree, changes_of, damaged, seeds

_BANK = BankFacts("0" * 64, None, "1" * 64, 100, {"weights": "f0", "prompts": {}}, {"margin": 0.1})
_STATE = {
    "step": 4,
    "world_size": 2,
    "zero_stage": 1,
    "precision": "fp32",
    "data": {"faq": "0"},
    "micro_batch_tokens": 128,
}


def _content(tree: Any, drawn: Any) -> bytes:
    changes, seed = drawn
    return damaged(as_json(changed_tree(tree, changes), seed).encode("utf-8", "surrogatepass"), seed)


def _attempt_bank(drawn: Any, folder: Path) -> Find | str:
    (folder / FACTS).write_bytes(_content(_bank_tree(folder), drawn))
    return judge(lambda: BankFacts.read(folder))


@cache
def _bank_tree(folder: Path) -> Any:
    for name in ("candidate_RC", "score_RC", "count_R"):
        np.save(folder / f"{name}.npy", np.zeros(3, dtype=np.int32))
    _BANK.write(folder)
    return json.loads((folder / FACTS).read_text())


def _attempt_table(drawn: Any, folder: Path) -> Find | str:
    meta, original, open_again = _table(folder)
    meta.write_bytes(_content(original, drawn))
    return judge(open_again)


@cache
def _table(folder: Path) -> tuple[Path, Any, Callable[[], Any]]:
    """A cache folder's meta.json, what stands in it, and how the folder is opened."""
    from tests.tiny import make_data, make_model

    make_model(folder / "model")
    make_data(folder / "data")
    tokeniser = Tokeniser(str(folder / "model"))
    task = TaskConfig(name="faq", kind="retrieval", path="retrieval.jsonl", quota=4)
    config = DataConfig(cache=str(folder / "cache"))

    def open_again() -> None:
        open_task(task, str(folder / "data" / "retrieval.jsonl"), config, tokeniser, 16, 16)

    open_again()
    (meta,) = (folder / "cache").rglob(META_FILE)
    return meta, json.loads(meta.read_text()), open_again


def _attempt_checkpoint(drawn: Any, folder: Path) -> Find | str:
    which, content, pointer, seed = drawn
    checkpoints, (state, manifest) = folder / "checkpoints", _checkpoint(folder)
    place = checkpoints / "step-00000004"
    (place / STATE).write_bytes(_content(state, content) if which == STATE else json.dumps(state).encode())
    (place / MANIFEST).write_bytes(_content(manifest, content) if which == MANIFEST else json.dumps(manifest).encode())
    (checkpoints / "latest").write_bytes(damaged(pointer.encode("utf-8", "surrogatepass"), seed))
    shutil.copyfile(checkpoints / "arrays", place / ARRAYS)
    if which == ARRAYS:
        (place / ARRAYS).write_bytes(damaged((checkpoints / "arrays").read_bytes(), seed))

    def read() -> None:
        find_damage(place)
        newest = Checkpoints(checkpoints, 1, lambda _: None).newest_whole()
        for found in kept_states(checkpoints):
            assert Checkpoint(place, found).step >= -(10**400)
        resolve_pointer(checkpoints / "latest")
        if newest is not None and which == ARRAYS:  # as a run reads them: after their hash was compared
            read_arrays(newest)

    return judge(read)


@cache
def _checkpoint(folder: Path) -> tuple[Any, Any]:
    from harness.engine import checkpoint

    place = folder / "checkpoints" / "step-00000004"
    place.mkdir(parents=True)
    (place / STATE).write_text(json.dumps(_STATE))
    with (place / ARRAYS).open("wb") as stream:
        np.savez(stream, late_row=np.arange(5), replaced=np.zeros(3, dtype=bool))
    shutil.copyfile(place / ARRAYS, folder / "checkpoints" / "arrays")
    manifest = {path.name: [path.stat().st_size, _digest(path, checkpoint)] for path in sorted(place.iterdir())}
    return _STATE, manifest


def _digest(path: Path, _: Any) -> str:
    import xxhash

    return xxhash.xxh3_128_hexdigest(path.read_bytes())


_METRICS = [{"step": n, "loss": 0.5, "seconds": 0.1, "num_texts": 8, "num_tokens": 80} for n in range(1, 5)]
_EVALUATIONS = [{"step": 0, "dataset": "faq", "metrics": {"ndcg_at_10": 0.5}, "prompts": {}}]
_RUN = {"name": "tiny", "steps": 4, "finished": False, "evaluation_data": [], "started": "2026-11-29T00:00:00+00:00"}


def _attempt_run(drawn: Any, folder: Path) -> Find | str:
    which, content, _, seed = drawn
    if which == "metrics.jsonl":
        lines = b"\n".join(
            _content(row, content) if n == seed % 4 else json.dumps(row).encode() for n, row in enumerate(_METRICS)
        )
        (folder / which).write_bytes(lines + b"\n" * (seed % 2))
        return judge(lambda: MetricsFile(folder / which).truncate_after(3))
    if which == "evaluation.json":
        (folder / which).write_bytes(_content(_EVALUATIONS, content))
        return judge(lambda: EvaluationFile(folder / which).truncate_after(0))
    (folder / "run.json").write_bytes(_content(_RUN, content))
    return judge(RunFile(folder / "run.json").read)


_contents = st.tuples(changes_of(("step-00000004", "0", "../..")), seeds)
_pointer = st.sampled_from(
    (*["step-00000004\n"] * 9, "step-00000004\n", "", "step-00000009", "../x", "\x00", "a" * 5_000, "\ud800", ".")
)


def _of_files(*names: str) -> st.SearchStrategy[Any]:
    return st.tuples(st.sampled_from(names), _contents, _pointer, seeds)


TARGETS = (
    Target("manifests: bank", _contents, _attempt_bank, 1.0),
    Target("manifests: cache", _contents, _attempt_table, 0.5),
    Target("manifests: checkpoint", _of_files(STATE, MANIFEST, ARRAYS), _attempt_checkpoint, 1.0),
    Target("manifests: run", _of_files("metrics.jsonl", "evaluation.json", "run.json"), _attempt_run, 1.0),
)
