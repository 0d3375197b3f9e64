"""Look up the raw texts of a step."""

import json
from pathlib import Path

import numpy as np


def raw_texts(tasks, step_plan, rows):
    """Return the raw texts of these rows of the step's table."""
    return [
        tasks[step_plan.texts.source_T[row]].data.read_texts(np.array([step_plan.texts.text_T[row]]))[0][0]
        for row in rows
    ]


def source_rows(path):
    return [json.loads(line) for line in Path(path).read_text(encoding="utf-8").splitlines()]
