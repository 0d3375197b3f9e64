"""Virtual environments with older versions of sentence-transformers, and what these embed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np

_FOLDER = "READERS_ENVIRONMENTS"  # where environments are kept between two starts
_ENCODE = """
import json, sys
import sentence_transformers, transformers
assert (sentence_transformers.__version__, transformers.__version__) == tuple(sys.argv[1:3]), "other versions"
folders, texts = json.load(sys.stdin)
found = {}
for folder in folders:
    model = sentence_transformers.SentenceTransformer(folder, device="cpu")
    found[folder] = {
        "vectors": model.encode(texts, convert_to_numpy=True, show_progress_bar=False).tolist(),
        "prompted": model.encode(texts, prompt_name="query", show_progress_bar=False).tolist(),
        "length": model.max_seq_length,
        "similarity": model.similarity_fn_name,
        "prompts": model.prompts,
    }
print("\\n" + json.dumps(found))
"""


def environment(versions: tuple[str, str], folder: Path) -> Path:
    """The Python of an environment with (sentence-transformers, transformers) of these versions. Made if need be."""
    sentence_transformers, transformers = versions
    place = Path(os.environ.get(_FOLDER) or folder) / f"sentence-transformers-{sentence_transformers}-{transformers}"
    python = place / "bin" / "python"
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", str(place)], check=True)
        wanted = [f"sentence-transformers=={sentence_transformers}", f"transformers=={transformers}", "torch==2.13.0"]
        subprocess.run([str(python), "-m", "pip", "install", "-q", *wanted], check=True)
    return python


def encoded(python: Path, versions: tuple[str, str], folders: list[Path], texts: list[str]) -> dict[str, dict]:
    """What the versions in this environment read and embed, by folder."""
    given = json.dumps([[str(folder) for folder in folders], texts])
    # The checkout's own modules are not for that environment.
    free = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "VIRTUAL_ENV")}
    done = subprocess.run(
        [str(python), "-c", _ENCODE, *versions], input=given, capture_output=True, text=True, env=free, timeout=600
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout.splitlines()[-1])


def difference(left: object, right: object) -> float:
    """The largest difference between two tables of embeddings."""
    return float(np.abs(np.asarray(left) - np.asarray(right)).max())
