"""Writes and reads DeepSpeed's files of a checkpoint. They are pickles, and to open a pickle can run any code in it.

So they are opened as weights only: tensors, numbers, texts, containers of these, and the classes that DeepSpeed itself
stores. A file with anything else is refused before any of it runs.
"""

from __future__ import annotations

import io
import logging
import os
import pickle
import re
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import Any

import torch
from deepspeed.runtime.fp16.loss_scaler import DynamicLossScaler, LossScaler
from deepspeed.runtime.zero.config import ZeroStageEnum
from deepspeed.utils.tensor_fragment import fragment_address

FOLDER = "deepspeed"  # folder of DeepSpeed's files inside a checkpoint
# What DeepSpeed stores beside tensors and plain values. None of them does more than to hold values when it is restored.
STORED_CLASSES = (LossScaler, DynamicLossScaler, ZeroStageEnum, fragment_address)
_FORCE_WEIGHTS_ONLY = "TORCH_FORCE_WEIGHTS_ONLY_LOAD"  # read by torch.load, stronger than its argument
_LOADS = (_FORCE_WEIGHTS_ONLY, "TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD")  # torch refuses both at once


def write_state(engine: Any, folder: Path, state: dict[str, Any], *, with_frozen: bool) -> None:
    """Write the weights and optimizer state of a DeepSpeed engine, and `state`, below `folder`. Every rank calls it.

    with_frozen: whether weights that are not trained are written, too.
    """
    with print_to_log():
        engine.save_checkpoint(
            str(folder), tag=FOLDER, client_state=state, save_latest=False, exclude_frozen_parameters=not with_frozen
        )


def read_state(engine: Any, folder: Path, *, with_frozen: bool) -> dict[str, Any]:
    """Restore what `write_state` wrote; returns its `state`. Every rank must call it, before the first step.

    Raises:
        ValueError: there are no such files, or one holds something else than values, whatever that is.
    """
    with print_to_log(), values_only(folder / FOLDER):
        loaded, state = engine.load_checkpoint(str(folder), tag=FOLDER, load_module_strict=with_frozen)
    if loaded is None:
        raise ValueError(f"{folder}: got no DeepSpeed state; set checkpoint.resume: never to start afresh")
    return state


@contextmanager
def values_only(folder: Path) -> Iterator[None]:
    """`weights_only`, for DeepSpeed's files in this folder.

    Raises:
        ValueError: a file holds something else than values, whatever that is.
    """
    try:
        with weights_only():
            yield
    except pickle.UnpicklingError as error:
        raise ValueError(
            f"{folder}: got a file with more than weights and numbers ({_refused(error)}), expected what DeepSpeed "
            "writes; nothing of it was run. Take another checkpoint: checkpoint.resume: STEP"
        ) from None


@contextmanager
def weights_only() -> Iterator[None]:
    """In here every `torch.load` of this process, DeepSpeed's too, restores values and `STORED_CLASSES` only.

    DeepSpeed 0.19 asks for the opposite in its calls, and offers no setting.
    """
    before = {name: os.environ.pop(name, None) for name in _LOADS}
    os.environ[_FORCE_WEIGHTS_ONLY] = "1"
    try:
        with torch.serialization.safe_globals([*STORED_CLASSES, (_member_of_stored_enum, "builtins.getattr")]):
            yield
    finally:
        del os.environ[_FORCE_WEIGHTS_ONLY]
        os.environ.update({name: value for name, value in before.items() if value is not None})


def _member_of_stored_enum(owner: Any, name: str) -> ZeroStageEnum:
    """Stands in for getattr, with which Python 3.11.2 stores a member of an enum; any other use is refused."""
    if owner is not ZeroStageEnum or name not in list(ZeroStageEnum.__members__):
        raise pickle.UnpicklingError("GLOBAL builtins.getattr is no value")
    return ZeroStageEnum[name]


def _refused(error: pickle.UnpicklingError) -> str:
    """What torch refused, without its advice, which is to trust the file."""
    text = " ".join(str(error).split())
    named = re.search(r"GLOBAL ([\w.]+)", text)
    return named[1] if named else text.partition("error: ")[2][:80] or "it is no file of torch"


@contextmanager
def print_to_log() -> Iterator[None]:
    """Redirect what DeepSpeed prints inside this context to its log."""
    printed = io.StringIO()
    with redirect_stdout(printed):
        yield
    logging.getLogger("DeepSpeed").info(printed.getvalue().strip())
