"""The environment of a command: accelerator, memory allocator, PATH, silent libraries.

It is set before torch and transformers are imported. Nothing but the standard library is imported here. Variables that
the user has set stay as they are.
"""

from __future__ import annotations

import logging
import os
import shutil
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from harness.settings.allocator import keep_freed_memory

_QUIET_ENVIRONMENT = {
    "TRANSFORMERS_VERBOSITY": "error",
    "TRANSFORMERS_NO_ADVISORY_WARNINGS": "1",
    "DATASETS_VERBOSITY": "error",
    "HF_HUB_VERBOSITY": "error",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "HF_DATASETS_DISABLE_PROGRESS_BARS": "1",
    "TORCH_CPP_LOG_LEVEL": "ERROR",
    "GLOG_minloglevel": "2",
    "TF_CPP_MIN_LOG_LEVEL": "3",
    "GRPC_VERBOSITY": "ERROR",
}
_PROGRESS_BARS: tuple[tuple[str, Callable[[Any], bool], str, str], ...] = (  # module, whether it shows them, off, on
    ("huggingface_hub.utils", lambda hub: not hub.are_progress_bars_disabled(), "disable_progress_bars",
     "enable_progress_bars"),
    ("transformers.utils.logging", lambda found: found.is_progress_bar_enabled(), "disable_progress_bar",
     "enable_progress_bar"),
    ("datasets.utils", lambda found: not found.are_progress_bars_disabled(), "disable_progress_bars",
     "enable_progress_bars"),
)  # fmt: skip
_CHATTY_LOGGERS = (
    "DeepSpeed", "torch", "transformers", "sentence_transformers", "datasets", "huggingface_hub", "filelock",
    "urllib3", "httpx", "tensorboard",
)  # fmt: skip


def has_gpu() -> bool:
    """Whether an NVIDIA GPU is visible. Does not import torch."""
    if os.environ.get("CUDA_VISIBLE_DEVICES", "0").strip() in ("", "-1"):
        return False
    return shutil.which("nvidia-smi") is not None or Path("/proc/driver/nvidia/version").exists()


def prepare_environment(verbose: bool = False) -> None:
    """Choose DeepSpeed's accelerator, put the programs of this Python first on PATH, and silence the libraries.

    On a CPU, the memory that is freed is kept (`allocator.py`).
    verbose: leave the libraries' output as it is. Warnings and log lines of this project are shown in either case.

    Raises:
        ValueError: a variable of this project has a value that is not known.
    """
    if not has_gpu():
        os.environ.setdefault("DS_ACCELERATOR", "cpu")
    if os.environ.get("DS_ACCELERATOR") == "cpu":  # DeepSpeed's launcher sets this for CPU ranks, too
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
        keep_freed_memory()
    # DeepSpeed builds its ops with the first ninja on PATH, and rebuilds them if the last build used another ninja. So
    # the first ninja must not depend on how the command is started (over ssh, for example, PATH differs).
    programs = str(Path(sys.executable).parent)
    other_folders = os.environ.get("PATH", "").split(os.pathsep)
    os.environ["PATH"] = os.pathsep.join([programs, *(folder for folder in other_folders if folder != programs)])
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")  # without it, a fork after tokenising prints a warning
    if verbose:
        return
    for name, value in _QUIET_ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    # Filters, because a library sets the level of its logger when it is imported, and would overwrite ours.
    for name in _CHATTY_LOGGERS:
        logging.getLogger(name).addFilter(_is_error)
    warnings.filterwarnings("ignore")
    warnings.filterwarnings("default", module=r"(harness|fused_contrastive)(\.|$)", category=UserWarning)
    warnings.formatwarning = _format_warning


@contextmanager
def prepared_environment(verbose: bool = False) -> Iterator[None]:
    """`prepare_environment` inside this context; afterwards variables, warnings and loggers are as they were."""
    before, chatty = dict(os.environ), [logging.getLogger(name) for name in _CHATTY_LOGGERS]
    filtered = [logger for logger in chatty if _is_error not in logger.filters]
    format_warning = warnings.formatwarning
    changed: dict[str, str] = {}
    with warnings.catch_warnings(), _without_progress_bars(verbose):
        try:
            prepare_environment(verbose)
            changed = {name: value for name, value in os.environ.items() if before.get(name) != value}
            yield
        finally:
            warnings.formatwarning = format_warning
            for logger in filtered:
                logger.removeFilter(_is_error)
            for name, value in changed.items():
                if os.environ.get(name) == value:  # else somebody has set it since
                    _restore(name, before.get(name))


@contextmanager
def _without_progress_bars(verbose: bool) -> Iterator[None]:
    """No bars of libraries that are imported already, which have read the variables above at their import."""
    shown: list[Callable[[], None]] = []
    for name, is_shown, disable, enable in () if verbose else _PROGRESS_BARS:
        module = sys.modules.get(name)
        if module is not None and is_shown(module):
            getattr(module, disable)()
            shown.append(getattr(module, enable))
    try:
        yield
    finally:
        for enable_again in shown:
            enable_again()


def _restore(name: str, value: str | None) -> None:
    if value is None:
        del os.environ[name]
    else:
        os.environ[name] = value


def _is_error(record: logging.LogRecord) -> bool:
    return record.levelno >= logging.ERROR


def _format_warning(message: Warning | str, *_: object, **__: object) -> str:
    return f"warning: {message}\n"
