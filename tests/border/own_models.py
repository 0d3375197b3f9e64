"""Model folders as people have them, each the demo's model with one thing changed: what is right for each."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.border.tried import Case, harness, refused, same_embeddings

SENTENCES = [{"text1": "salt", "text2": "a jar of salt", "score": 5}, {"text1": "moss", "text2": "a ferry", "score": 0}]


def cases(place: Path) -> list[Case]:
    """A case per folder, which is written below `place`."""
    sentences = place / "sentences.jsonl"
    sentences.write_text("".join(json.dumps(row) + "\n" for row in SENTENCES), encoding="utf-8")

    def folder_of(name: str, change: Callable[[Path], None]) -> Path:
        folder = _copy_of_demo(place / name.replace(" ", "_"))
        change(folder)
        return folder

    def equal(name: str, change: Callable[[Path], None]) -> Case:
        return Case(name, lambda: same_embeddings(folder_of(name, change)))

    def stops(name: str, change: Callable[[Path], None], *words: str) -> Case:
        return Case(name, lambda: refused(harness("evaluate", folder_of(name, change), sentences), *words))

    return [
        equal("Dense with tanh", lambda f: _add_dense(f, activation="activation.Tanh")),
        equal("Dense without bias", lambda f: _add_dense(f, bias=False)),
        equal("two Dense", lambda f: (_add_dense(f, "2_Dense"), _add_dense(f, "3_Dense", inputs=16))[0]),
        equal(
            "weighted mean pooling",
            lambda f: _edit(
                f / "1_Pooling/config.json", pooling_mode_mean_tokens=False, pooling_mode_weightedmean_tokens=True
            ),
        ),
        equal("no length of 1 at the end", lambda f: _modules(f, [("", "Transformer"), ("1_Pooling", "Pooling")])),
        equal("texts of 6 tokens", lambda f: _edit(f / "sentence_bert_config.json", max_seq_length=6)),
        stops(
            "a module of another kind",
            lambda f: _modules(f, [("", "Transformer"), ("1_Pooling", "Pooling"), ("2_CNN", "CNN")]),
            "CNN",
        ),
        stops(
            "an unknown pooling",
            lambda f: _write(f / "1_Pooling/config.json", {"embedding_dimension": 384, "pooling_mode": "attention"}),
            "attention",
        ),
        stops("an unknown key", lambda f: _edit(f / "1_Pooling/config.json", pooling_power=3), "pooling_power"),
        stops(
            "weights that are a pointer",
            lambda f: _replace(
                f / "model.safetensors", "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n"
            ),
            "LFS",
        ),
        stops("weights that are cut", _cut_weights, "model.safetensors"),
        stops("broken JSON", lambda f: _replace(f / "config.json", '{"model_type": '), "config.json"),
        stops("a token beyond the weights", _add_token, "teapot-kettle"),
        stops("an unknown model type", lambda f: _edit(f / "config.json", model_type="wonderbert"), "wonderbert"),
        stops("weights of another shape", lambda f: _edit(f / "config.json", intermediate_size=1024), "intermediate"),
    ]


def _copy_of_demo(folder: Path) -> Path:
    """The demo's model as a sentence-transformers folder with the old names of modules and keys."""
    from harness.model_folder.find import resolve_model

    source = Path(resolve_model("demo-minilm"))
    folder.mkdir()
    for path in source.iterdir():
        if path.suffix == ".safetensors":
            os.symlink(path, folder / path.name)
        elif path.is_file():
            shutil.copy(path, folder)
    _modules(folder, [("", "Transformer"), ("1_Pooling", "Pooling"), ("2_Normalize", "Normalize")])
    _write(folder / "1_Pooling/config.json", {"word_embedding_dimension": 384, "pooling_mode_mean_tokens": True})
    _write(folder / "sentence_bert_config.json", {"max_seq_length": 256, "do_lower_case": False})
    return folder


def _modules(folder: Path, modules: list[tuple[str, str]]) -> None:
    entries = [
        {"idx": index, "name": str(index), "path": path, "type": f"sentence_transformers.models.{kind}"}
        for index, (path, kind) in enumerate(modules)
    ]
    _write(folder / "modules.json", entries)


def _add_dense(
    folder: Path, name: str = "2_Dense", *, inputs: int = 384, activation: str = "linear.Identity", bias: bool = True
) -> None:
    import torch
    from safetensors.torch import save_file

    modules = json.loads((folder / "modules.json").read_text(encoding="utf-8"))
    entries = [
        (entry["path"], entry["type"].rsplit(".", 1)[-1]) for entry in modules if "Normalize" not in entry["type"]
    ]
    _modules(folder, [*entries, (name, "Dense"), ("9_Normalize", "Normalize")])
    settings: dict[str, Any] = {"in_features": inputs, "out_features": 16, "bias": bias}
    settings["activation_function"] = f"torch.nn.modules.{activation}"
    _write(folder / name / "config.json", settings)
    torch.manual_seed(inputs)
    weights = {"linear.weight": torch.randn(16, inputs)} | ({"linear.bias": torch.randn(16)} if bias else {})
    save_file(weights, str(folder / name / "model.safetensors"))


def _add_token(folder: Path) -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.add_tokens(["teapot-kettle"])
    tokenizer.save_pretrained(folder)


def _cut_weights(folder: Path) -> None:
    path = folder / "model.safetensors"
    content = path.read_bytes()
    path.unlink()
    path.write_bytes(content[: len(content) // 2])


def _replace(path: Path, text: str) -> None:
    path.unlink()
    path.write_text(text, encoding="utf-8")


def _edit(path: Path, **changes: Any) -> None:
    _write(path, {**json.loads(path.read_text(encoding="utf-8")), **changes})


def _write(path: Path, tree: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(tree), encoding="utf-8")
