"""Imported once, by the fork server of `tests.ranks`, so that ranks start in a moment instead of importing for seconds.

Besides the harness itself it imports what a run imports late: DeepSpeed's Muon, which loads torch's compiler, when the
first engine is built, and the figures of a report when a run ends. It also asks DeepSpeed which of its operators can be
compiled here, which runs a C compiler.
"""

import gc
import os
from contextlib import suppress

os.environ.update(DS_ACCELERATOR="cpu", OMP_NUM_THREADS="1", CUDA_VISIBLE_DEVICES="", HF_HUB_OFFLINE="1")
os.environ["TRITON_INTERPRET"] = "1"

import datasets  # noqa: F401
import deepspeed
import deepspeed.runtime.zero.muon.muon_optimizer  # noqa: F401
import sentence_transformers  # noqa: F401
import transformers  # noqa: F401
from deepspeed.ops import __compatible_ops__  # noqa: F401

import harness.report.page
import harness.trainer  # noqa: F401

with suppress(ImportError):  # Triton is for Linux only
    import tests.interpreter  # noqa: F401

gc.collect()
gc.freeze()  # DeepSpeed collects garbage for each engine: without this it would walk through all these modules' objects
