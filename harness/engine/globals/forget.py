"""Lets DeepSpeed forget the process group of a training that has ended, so that another may start in this process."""

from __future__ import annotations

import deepspeed.comm
from deepspeed.utils import groups

_KEPT_GROUPS = ("_WORLD_GROUP", "_ZERO_PARAM_INTRA_PARALLEL_GROUP", "_DATA_PARALLEL_GROUP", "_MODEL_PARALLEL_GROUP")


def forget_process_group() -> None:
    """Drop DeepSpeed's references to the process group. Call it before the group is destroyed.

    DeepSpeed clones the group once a process, and would ask the next engine to work with the clone of a group that is
    no more ("Group ... is not registered").
    """
    deepspeed.comm.comm.cdb = None
    release = getattr(groups, "_release_process_group_references", None)
    if release is not None:
        release()
    for name in _KEPT_GROUPS:
        setattr(groups, name, None)
