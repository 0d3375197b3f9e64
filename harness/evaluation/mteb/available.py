"""Imports mteb, an optional package, and keeps it from changing what this process draws at random or prints.

Importing mteb 2.26, creating one of its tasks and running one sets the seeds of random, numpy and torch for the whole
process (`findings/mteb_import_sets_seeds.sh`). A run that is scored during training must draw as it would without.
"""

from __future__ import annotations

import logging
import os
import random
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec

import numpy as np
import torch

INSTALL = "pip install 'mteb>=2.26'"


def require_mteb(knob: str) -> None:
    """Refuse to go on without mteb 2, before anything is loaded. Does not import it. knob: what asks for it.

    Raises:
        ValueError: mteb is not installed, or is older.
    """
    if find_spec("mteb") is None:
        raise ValueError(f"{knob}: needs the package mteb, which is not installed; {INSTALL}")
    try:
        found = version("mteb")
    except PackageNotFoundError:  # mteb-core carries the module, too, and cannot evaluate
        raise ValueError(f"{knob}: needs the package mteb, of which only a part is installed; {INSTALL}") from None
    if not found.split(".")[0].isdecimal() or int(found.split(".")[0]) < 2:
        raise ValueError(f"{knob}: got mteb {found}, expected mteb 2.26 or later; {INSTALL}")


@contextmanager
def unchanged_process() -> Iterator[None]:
    """Inside, mteb may be imported and run; afterwards random, numpy and torch go on as if it had not been."""
    states = random.getstate(), np.random.get_state(), torch.get_rng_state()
    on_gpus = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []
    if os.environ.get("DATASETS_VERBOSITY") == "error":  # as `prepare_environment` sets it without --verbose
        logging.getLogger("mteb").setLevel(logging.ERROR)
    try:
        yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])
        torch.set_rng_state(states[2])
        if on_gpus:
            torch.cuda.set_rng_state_all(on_gpus)
