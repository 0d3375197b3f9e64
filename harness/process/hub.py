"""Asks a hub for a name once, before libraries ask that try again and again, or wait for ever."""

from __future__ import annotations

from functools import lru_cache
from typing import Literal


@lru_cache
def problem_of_hub_name(name: str, kind: Literal["model", "dataset"]) -> Exception | None:
    """Why the hub does not give this name; None: it does. The answer is remembered until `forget_hub`.

    Waits for an answer for HF_HUB_ETAG_TIMEOUT seconds at most. Without a network huggingface_hub itself tries six
    times, with pauses of 23 s together; where connections are swallowed, `snapshot_download` waits without a limit.
    """
    # Imported here: the import reads variables that settings/environment.py must set before.
    from huggingface_hub import HfApi, constants
    from huggingface_hub.errors import HTTPError

    try:
        HfApi().repo_info(name, repo_type=kind, timeout=constants.HF_HUB_ETAG_TIMEOUT)
    except (HTTPError, OSError, ValueError) as error:
        return error
    return None


def forget_hub() -> None:
    """Ask the hub anew for every name, in a process that goes on: one that was out of reach may be there now."""
    problem_of_hub_name.cache_clear()
