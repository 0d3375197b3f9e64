"""The raw texts behind the rows of a step's table."""

import json
from pathlib import Path

import numpy as np


def raw_texts(tasks, made, rows):
    """The raw texts behind table rows."""
    return [tasks[made.texts.source_T[row]].data.read_texts(np.array([made.texts.text_T[row]]))[0][0] for row in rows]


def source_rows(path):
    return [json.loads(line) for line in Path(path).read_text(encoding="utf-8").splitlines()]
