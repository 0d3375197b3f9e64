"""Imported once by the fork server of `tests.ranks`: ranks then start in a moment instead of importing for seconds."""

import os

os.environ.update(DS_ACCELERATOR="cpu", OMP_NUM_THREADS="1", CUDA_VISIBLE_DEVICES="", HF_HUB_OFFLINE="1")
os.environ["TRITON_INTERPRET"] = "1"

import datasets  # noqa: F401
import deepspeed  # noqa: F401
import sentence_transformers  # noqa: F401
import transformers  # noqa: F401

import harness.trainer  # noqa: F401
