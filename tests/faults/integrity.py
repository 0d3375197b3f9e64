"""Rows A2, A3 and A6 to A10: numbers, checkpoints, caches, disks and inputs that are not as they should be."""

from __future__ import annotations

import json
import os
import shutil
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import torch

from harness.files import sizes_and_hashes
from tests.faults.fault import Fault, Seen
from tests.faults.started import overrides, recipe_in
from tests.ranks import run_command

_QUIET = ("--set", "evaluation.every=0")


def _train(folder: Path, *changes: str) -> tuple[int, str]:
    """Status and last line of `harness train`."""
    return _ended(run_command("train", str(folder / "tiny.yaml"), *_QUIET, *overrides(changes)))


def _ended(process: subprocess.CompletedProcess[str]) -> tuple[int, str]:
    lines = [line for line in process.stderr.splitlines() if line.strip() and "it/s]" not in line]
    return process.returncode, lines[-1] if lines else ""


def _refused(ended: tuple[int, str], words: str, *, kept: bool = True) -> Seen:
    """A mistake that must give status 2 and one line with these words."""
    status, line = ended
    return Seen(status, line, "nothing" if kept else "files", status == 2 and words in line and kept)


def _infinite_norm(folder: Path) -> Seen:
    recipe_in(folder)
    ended = _train(folder, "loss.beta=1.0e36")
    return _refused(ended, "the norm of the gradients", kept=not (folder / "run" / "model").exists())


def _stop_and_go_back(folder: Path) -> Seen:
    """Two steps, two more that explode, then back to step 2 and on to the end with the rate of before."""
    recipe_in(folder)
    settings = ("checkpoint.every=2", "checkpoint.keep=1")
    _train(folder, *settings, "training.steps=2")
    status, line = _train(folder, *settings, "checkpoint.resume=2", "training.learning_rate=1.0e30")
    names = {path.name for path in (folder / "run" / "checkpoints").iterdir()}
    kept = {"step-00000002", "stopped-step-00000003"} <= names
    again, _ = _train(folder, *settings, "checkpoint.resume=2", "training.learning_rate=1.0e-3")
    changes = json.loads((folder / "run" / "changes.json").read_text())
    right = status == 2 and kept and again == 0 and len(changes) == 2
    return Seen(status, line, "nothing" if kept else "the checkpoint of step 2", right)


class _Code:
    """Makes a folder when it is unpickled: harmless, and seen."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Callable[..., None], tuple[str]]:
        return os.mkdir, (str(self.marker),)


def _code_in_a_checkpoint(folder: Path) -> Seen:
    recipe_in(folder)
    _train(folder)
    checkpoint, marker = folder / "run" / "checkpoints" / "step-00000006", folder / "it ran"
    file = next((checkpoint / "deepspeed").rglob("*model_states.pt"))
    torch.save({**torch.load(file, weights_only=False), "extra": _Code(marker)}, file)
    manifest = json.loads((checkpoint / "manifest.json").read_text())
    (checkpoint / "manifest.json").write_text(json.dumps(manifest | sizes_and_hashes(checkpoint, [file])))
    seen = _refused(_train(folder, "training.steps=7"), "more than weights and numbers")
    return Seen(seen.status, seen.message, seen.lost, seen.right and not marker.exists())


def _flip(file: Path) -> None:
    content = file.read_bytes()
    file.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))


def _flipped_bytes_in_the_cache(folder: Path) -> Seen:
    """Every file of the cache, one after another. message: the last of the lines."""
    recipe = recipe_in(folder)
    _train(folder)
    files = sorted(f for f in (folder / "cache" / "rows").rglob("*") if f.is_file() and f.suffix != ".lock")
    found = []
    for file in files:
        _flip(file)
        found.append(_ended(run_command("plan", str(recipe))))
        _flip(file)
    missed = sum(status != 2 or "damaged folder" not in line for status, line in found)
    status, line = found[-1]
    return Seen(status, f"{line} ({len(files)} files)", "nothing" if not missed else f"{missed} unseen", not missed)


def _bank(folder: Path) -> tuple[str, ...]:
    """Mine a bank; returns the settings to train with it."""
    recipe_in(folder)
    queries, out = folder / "retrieval.jsonl", folder / "bank"
    run_command("mine", str(folder / "model"), "--queries", str(queries), "--out", str(out), "--candidates", "20")
    return (f"tasks.faq.negatives.bank={out}", f"output={folder / 'other'}")


def _flipped_bit_in_a_bank(folder: Path) -> Seen:
    settings = _bank(folder)
    _flip(folder / "bank" / "score_RC.npy")
    return _refused(_train(folder, *settings), "which is damaged (score_RC.npy: got other bytes")


def _bank_cut_short(folder: Path) -> Seen:
    settings = _bank(folder)
    file = folder / "bank" / "candidate_RC.npy"
    os.truncate(file, file.stat().st_size // 2)
    return _refused(_train(folder, *settings), "which is damaged (candidate_RC.npy: got")


def _replaced_data(folder: Path) -> Seen:
    """Another file of equal size and modification time: the cache must not answer for it."""
    recipe_in(folder)
    _train(folder)
    file = folder / "retrieval.jsonl"
    before = file.stat()
    other = folder / "other.jsonl"
    other.write_bytes(file.read_bytes().replace(b"ral", b"lar"))
    os.utime(other, ns=(before.st_atime_ns, before.st_mtime_ns))
    other.replace(file)
    same = (file.stat().st_size, file.stat().st_mtime_ns) == (before.st_size, before.st_mtime_ns)
    seen = _refused(_train(folder, "training.steps=7"), "got another data than it was trained with")
    return Seen(seen.status, seen.message, seen.lost, seen.right and same)


def _published_model(folder: Path) -> Seen:
    """Names with marks and absolute paths; message: what is left of them in the exported folder."""
    recipe_in(folder)
    hostile = folder / "<b>a|b.jsonl"
    shutil.copy(folder / "sts" / "train.jsonl", hostile)
    status, _ = _train(folder, f"tasks.similar.path={hostile}", "model.prompts={query: '<img src=x>|'}")
    model = folder / "run" / "model"
    card = (model / "README.md").read_text()
    modes = {stat.S_IMODE(file.stat().st_mode) for file in model.rglob("*") if file.is_file()}
    raw = [name for name in ("<b>", str(folder)) if name in card.partition("```yaml")[0]]
    right = status == 0 and not raw and len(modes) == 1 and str(folder) not in card
    return Seen(
        status, f"raw in the card: {raw or 'nothing'}; modes: {[oct(mode) for mode in modes]}", "nothing", right
    )


def _in_a_mount(folder: Path, options: str, *changes: str) -> tuple[int, str]:
    """Train with the output in a memory disk, mounted in a mount namespace of its own, which needs leave to make."""
    recipe, place = recipe_in(folder), folder / "mount"
    place.mkdir()
    words = " ".join(overrides((f"output={place / 'run'}", "evaluation.every=0", *changes)))
    command = f"mount -t tmpfs -o {options} tmpfs {place} && exec {sys.executable} -m harness train {recipe} {words}"
    return _ended(subprocess.run(["unshare", "-m", "bash", "-c", command], capture_output=True, text=True, check=False))


def _full_disk_before(folder: Path) -> Seen:
    return _refused(_in_a_mount(folder, "size=1100k"), "free, expected room")


def _full_disk_while_saving(folder: Path) -> Seen:
    """What a run needs at least is there, and no more: tokenizers, figures and the like fill it."""
    return _refused(_in_a_mount(folder, "size=1700k", "checkpoint.every=1"), "full disk")


def _read_only(folder: Path) -> Seen:
    return _refused(_in_a_mount(folder, "ro"), "cannot be written to")


def _impossible_output(folder: Path) -> Seen:
    recipe_in(folder)
    return _refused(_train(folder, f"output={folder / 'tiny.yaml' / 'run'}"), "is a file, expected a folder")


def _damaged_weights(folder: Path) -> Seen:
    recipe_in(folder)
    file = folder / "model" / "model.safetensors"
    os.truncate(file, file.stat().st_size - 10)
    return _refused(_train(folder), "no whole safetensors file")


def _half_written_run_json(folder: Path) -> Seen:
    recipe_in(folder)
    _train(folder)
    file = folder / "run" / "run.json"
    os.truncate(file, file.stat().st_size // 2)
    return _refused(_train(folder), "run.json: got another content, expected a JSON object; delete it")


def _foreign_names_among_checkpoints(folder: Path) -> Seen:
    recipe_in(folder)
    _train(folder, "training.steps=4")
    foreign = [folder / "run" / "checkpoints" / name for name in ("step-best", "step-7", "notes")]
    for place in foreign:
        place.mkdir()
    status, line = _train(folder, "training.steps=6")
    kept = all(place.is_dir() for place in foreign)
    return Seen(status, line, "nothing" if kept else "foreign folders", status == 0 and kept)


def _alias_bomb(folder: Path) -> Seen:
    recipe_in(folder)
    levels = "".join(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 30))
    (folder / "tiny.yaml").write_text(f"a0: &a0 [x]\n{levels}")
    return _refused(_train(folder), "aliases that stand for")


def _plan(*changes: str, ranks: int = 1) -> Callable[[Path], Seen]:
    def run(folder: Path) -> Seen:
        return _refused(
            _ended(run_command("plan", str(recipe_in(folder)), "--ranks", str(ranks), *overrides(changes))), "expected"
        )

    return run


def _too_many_candidates(folder: Path) -> Seen:
    recipe_in(folder)
    place = ("--queries", str(folder / "retrieval.jsonl"), "--out", str(folder / "bank"))
    ended = _ended(run_command("mine", str(folder / "model"), *place, "--candidates", "1000000000"))
    return _refused(ended, "expected at most 10,000 per query", kept=not (folder / "bank").exists())


ROWS: list[Fault] = [
    Fault("A2", "gradients that are finite, but whose norm is not", _infinite_norm),
    Fault("A3", "weights that explode, with one checkpoint kept; then back with another rate", _stop_and_go_back),
    Fault("A6", "a checkpoint that holds code, with hashes that fit", _code_in_a_checkpoint),
    Fault("A7", "a flipped bit in each file of the cache", _flipped_bytes_in_the_cache),
    Fault("A7", "a flipped bit in a bank", _flipped_bit_in_a_bank),
    Fault("A7", "a data file replaced by one of equal size and time", _replaced_data),
    Fault("A8", "names with marks of HTML and tables, absolute paths, the mode of the weights", _published_model),
    Fault("A9", "an output without room", _full_disk_before),
    Fault("A9", "a disk that becomes full while the run saves", _full_disk_while_saving),
    Fault("A9", "a read-only output", _read_only),
    Fault("A9", "an output below a file", _impossible_output),
    Fault("A9", "weights that are cut short", _damaged_weights),
    Fault("A9", "a half-written run.json", _half_written_run_json),
    Fault("A9", "foreign folders among the checkpoints", _foreign_names_among_checkpoints),
    Fault("A9", "a bank that is cut short", _bank_cut_short),
    Fault("A10", "a recipe whose aliases stand for 9^29 values", _alias_bomb),
    Fault("A10", "plan with a quota of a million", _plan("tasks.faq.quota=1000000")),
    Fault("A10", "plan with a million ranks", _plan(ranks=1_000_000)),
    Fault("A10", "mine with a billion candidates", _too_many_candidates),
]
