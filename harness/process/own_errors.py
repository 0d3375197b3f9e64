"""Which errors are a user's mistakes in this project's words, to be shown as one line, and whether they shall be."""

from __future__ import annotations

import os
import traceback
from pathlib import Path

_OWN_FOLDERS = (f"{Path(__file__).parent.parent}{os.sep}", f"{os.sep}fused_contrastive{os.sep}")


def raised_by_this_project(error: Exception) -> bool:
    """Whether this project's own code raised the error, not a library, nor a user's callback."""
    frames = traceback.extract_tb(error.__traceback__)
    return any(folder in frames[-1].filename for folder in _OWN_FOLDERS)


def tracebacks_are_wanted() -> bool:
    """Whether HARNESS_DEBUG asks for the whole traceback of a mistake."""
    return os.environ.get("HARNESS_DEBUG", "0") not in ("", "0")
