"""Starting models that have room to learn: the first layers of all-MiniLM-L6-v2, with their weights or without.

    cutN      the word embeddings and the first N layers, as they are
    freshN    the same word embeddings; the N layers are initialised anew, by a fixed seed

Neither has been trained contrastively in this form, but the word embeddings (and cutN's layers) come from a model that
was: a start from pre-training alone is not at hand without a hub. Any other name is a model of the user's own.
"""

from __future__ import annotations

import re
import shutil
from pathlib import Path

from harness.model_folder.find import DEMO_MODEL, resolve_model

FRESH_SEED = 20261129
_NAME = re.compile(r"(cut|fresh)([1-6])")
_COPIED = ("*.json", "vocab.txt", "1_Pooling/config.json")  # all but the weights


def starting_model(name: str, folder: Path) -> str:
    """The folder of the starting model `name`, written on first use; another model's name is returned as it is."""
    found = _NAME.fullmatch(name)
    if found is None:
        return name
    if not (folder / name).exists():
        unfinished = folder / f"{name}.part"
        shutil.rmtree(unfinished, ignore_errors=True)
        write_cut_model(Path(resolve_model(DEMO_MODEL)), unfinished, int(found[2]), fresh=found[1] == "fresh")
        unfinished.rename(folder / name)
    return str(folder / name)


def write_cut_model(source: Path, folder: Path, num_layers: int, *, fresh: bool) -> None:
    """Write the model of `source` with its first layers only. fresh: all but the embeddings is initialised anew."""
    import torch
    from transformers import AutoModel

    for pattern in _COPIED:
        for file in source.glob(pattern):
            (folder / file.relative_to(source)).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, folder / file.relative_to(source))
    whole = AutoModel.from_pretrained(source)
    whole.config.num_hidden_layers = num_layers
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(FRESH_SEED)
        cut = AutoModel.from_config(whole.config)
    kept = {name: tensor for name, tensor in whole.state_dict().items() if name in cut.state_dict()}
    if fresh:
        kept = {name: tensor for name, tensor in kept.items() if name.startswith("embeddings.")}
    missing = cut.load_state_dict(kept, strict=False).missing_keys
    expected = [name for name in cut.state_dict() if fresh and not name.startswith("embeddings.")]
    assert sorted(missing) == sorted(expected), missing
    cut.save_pretrained(folder)
