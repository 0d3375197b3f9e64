"""Puts away what DeepSpeed leaves in the process, so that another training may start there and is the same as alone."""

from __future__ import annotations

import deepspeed.comm
import torch
from deepspeed.runtime.zero.partition_parameters import InsertPostInitMethodToModuleSubClasses
from deepspeed.utils import groups

_KEPT_GROUPS = ("_WORLD_GROUP", "_ZERO_PARAM_INTRA_PARALLEL_GROUP", "_DATA_PARALLEL_GROUP", "_MODEL_PARALLEL_GROUP")


def put_away() -> None:
    """Forget the process group, and give torch its own `linear` back. Call it before the group is destroyed.

    DeepSpeed clones the group once a process, and would ask the next engine to work with the clone of a group that is
    no more ("Group ... is not registered"). Under ZeRO-3 it replaces `torch.nn.functional.linear` for good: models that
    have nothing to do with it would go on with other bits (findings/zero_3_linear_stays_replaced.sh).
    """
    deepspeed.comm.comm.cdb = None
    release = getattr(groups, "_release_process_group_references", None)
    if release is not None:
        release()
    for name in _KEPT_GROUPS:
        setattr(groups, name, None)
    own_linear = getattr(InsertPostInitMethodToModuleSubClasses, "linear_bk", None)
    if own_linear is not None:
        torch.nn.functional.linear = own_linear
