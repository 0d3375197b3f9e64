"""Floor 0: the environment of a run, set before torch, transformers and deepspeed are imported.

Only the standard library is imported here. What the user has set in the environment already stays as it is.
"""

from __future__ import annotations

import logging
import os
import shutil
import sys
import warnings
from pathlib import Path

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
_CHATTY_LOGGERS = (
    "DeepSpeed", "torch", "transformers", "sentence_transformers", "datasets", "huggingface_hub", "filelock",
    "urllib3", "httpx", "tensorboard",
)  # fmt: skip


def has_gpu() -> bool:
    """Whether an NVIDIA GPU can be seen, found out without importing torch."""
    if os.environ.get("CUDA_VISIBLE_DEVICES", "0").strip() in ("", "-1"):
        return False
    return shutil.which("nvidia-smi") is not None or Path("/proc/driver/nvidia/version").exists()


def prepare_environment(verbose: bool = False) -> None:
    """Choose DeepSpeed's accelerator, put this Python's programs first on PATH, and silence the libraries.

    With `verbose`, libraries may say what they like. Warnings and log lines of this project are always shown.
    """
    if not has_gpu():
        os.environ.setdefault("DS_ACCELERATOR", "cpu")
    if os.environ.get("DS_ACCELERATOR") == "cpu":  # DeepSpeed's launcher numbers CPU ranks with the GPUs' variable
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
    # Another ninja earlier on PATH (over ssh, say) would rebuild DeepSpeed's ops at every change between the two.
    programs = str(Path(sys.executable).parent)
    others = os.environ.get("PATH", "").split(os.pathsep)
    os.environ["PATH"] = os.pathsep.join([programs, *(folder for folder in others if folder != programs)])
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")  # unset, every fork after tokenising prints a warning
    if verbose:
        return
    for name, value in _QUIET_ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    # A level would be overwritten when the library sets up its logger; a filter stays.
    for name in _CHATTY_LOGGERS:
        logging.getLogger(name).addFilter(_is_error)
    warnings.filterwarnings("ignore")
    warnings.filterwarnings("default", module=r"(harness|fused_contrastive)(\.|$)", category=UserWarning)
    warnings.formatwarning = _one_line


def _is_error(record: logging.LogRecord) -> bool:
    return record.levelno >= logging.ERROR


def _one_line(message: Warning | str, *_: object, **__: object) -> str:
    return f"warning: {message}\n"
