"""Writes the model of a run as a sentence-transformers folder with a model card. All exports use this file."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any

import numpy as np
from torch import Tensor

from harness.config import RunConfig, dump_tree, inference_prompts
from harness.data.table.tokenisation import Tokeniser
from harness.encoder.attention.direction import reader_note
from harness.encoder.config import ModelConfig
from harness.encoder.encoder import Encoder
from harness.encoder.load import load_encoder
from harness.evaluation.results import json_values
from harness.export.card_metadata import base_metadata, front_matter, hub_name
from harness.export.formats.sizes import is_quantised, sizes_section
from harness.export.model_card import model_card
from harness.export.sentence_transformers_folder import embed_on_cpu, verify_model, write_model
from harness.model_folder.find import published_name
from harness.model_folder.layout import base_of_adapter
from harness.prompts import ModelPrompts
from harness.prompts.names_of_others import with_names_of_others
from harness.report.messages import warn
from harness.run.averaging.facts import AveragedWeights
from harness.run.folder import RunFolder

_KEYS_OF_PATHS = ("path", "data", "name_or_path", "corpus", "bank", "deepspeed")  # of a recipe, in any section


def export_model(
    out: Path,
    folder: RunFolder,
    encoder: Encoder,
    tokeniser: Tokeniser,
    *,
    model: ModelConfig,
    weights: Mapping[str, Tensor] | None = None,
    step: int | None = None,
    check_texts: Sequence[str] = (),
    then: Callable[[Path], None] = lambda written: None,
    averaged: AveragedWeights | None = None,
) -> float | None:
    """Write the folder `out`. It calls no collectives, so rank 0 may call it alone.

    Args:
        out: the folder to write; an earlier one is replaced when the new one is whole and checked.
        folder: the run, whose recipe, data and scores the model card names.
        encoder: the model's architecture. Its adapter is merged; the comparison is with the adapter's own outputs.
        tokeniser, model: the model's, and the settings that `encoder` is loaded with.
        weights: all weights, unsharded and float32; None: those in `encoder`. Required if ZeRO shards the encoder.
        step: how many steps the weights were trained for; None: all steps of the run.
        check_texts: if given, `out` is loaded again, and its embeddings of these texts are compared with the encoder's.
        then: called with the compared folder before it becomes `out`; may add to it, and refuse it by an error.
        averaged: what the weights are the mean of, for the model card; None: those of one step.

    Returns the largest difference of two embeddings, None without `check_texts`. Raises ValueError if it is above 1e-5.
    """
    encoder, state, expected = _to_write(encoder, weights, tokeniser, model, check_texts)
    prompts, differences = inference_prompts(folder.config), []
    card = _model_card(folder, CardOfEncoder.of(encoder), step, prompts, averaged)

    def compare(written: Path) -> None:
        if expected is not None:
            differences.append(verify_model(written, check_texts, expected, model, out))
        then(written)

    kept = write_model(out, encoder, state, tokeniser.tokenizer, model, prompts=prompts, card=card, check=compare)
    _say_kept(out, kept)
    return differences[0] if differences else None


def _say_kept(out: Path, kept: Path | None) -> None:
    if kept is not None:
        warn(f"the earlier {out} held files that a model does not have: it is kept as {kept}")


def _to_write(
    encoder: Encoder,
    weights: Mapping[str, Tensor] | None,
    tokeniser: Tokeniser,
    model: ModelConfig,
    check_texts: Sequence[str],
) -> tuple[Encoder, dict[str, Tensor], np.ndarray | None]:
    """The encoder without an adapter, its weights, and what was trained gives for the texts, before it is merged."""
    has_adapter, expected = encoder.adapter is not None, None
    if check_texts or has_adapter:
        trained = encoder if weights is None else _loaded(model, weights)
        expected = embed_on_cpu(trained, tokeniser, check_texts, model.longest_text) if check_texts else None
        if has_adapter:
            trained.merge_adapter()
            return trained, trained.state_dict(), expected
    return encoder, dict(encoder.state_dict() if weights is None else weights), expected


def export_adapter(
    out: Path,
    folder: RunFolder,
    encoder: Encoder,
    tokeniser: Tokeniser,
    *,
    model: ModelConfig,
    weights: Mapping[str, Tensor],
    step: int,
) -> None:
    """Write the adapter in peft's format, as a folder that sentence-transformers can load, too. No collectives.

    weights: the trained ones at least. The arguments are those of `export_model`.
    """
    prompts = inference_prompts(folder.config)
    card = _model_card(folder, CardOfEncoder.of(encoder, of_adapter=True), step, prompts)
    base = base_of_adapter(model.name_or_path)
    write_model(out, encoder, dict(weights), tokeniser.tokenizer, model, prompts=prompts, card=card, adapter_base=base)


def _loaded(model: ModelConfig, state: Mapping[str, Tensor]) -> Encoder:
    """On the CPU, whatever the run has trained on: attention that needs a GPU would fail there."""
    encoder = load_encoder(model.model_copy(update={"attention": "auto"}))
    encoder.load_trained(state)
    return encoder


@dataclass(frozen=True, slots=True)
class CardOfEncoder:
    """What the card says of the encoder. attention: who reads it rightly. own_code: its class comes with the folder."""

    dim: int
    attention: str | None = None
    own_code: bool = False

    @classmethod
    def of(cls, encoder: Encoder, *, of_adapter: bool = False) -> CardOfEncoder:
        own_code = type(encoder.backbone).__module__.startswith("transformers_modules.")
        return cls(encoder.dim, reader_note(encoder.backbone.config, of_adapter=of_adapter), own_code)


def _model_card(
    folder: RunFolder,
    encoder: CardOfEncoder,
    step: int | None,
    prompts: ModelPrompts,
    averaged: AveragedWeights | None = None,
) -> str:
    """README.md of the exported model: recipe, data, prompts, scores before training and of the model.

    prompts: of the run; the card has them by the names that other libraries take, too.
    """
    config, facts = folder.config, folder.read("run.json", {})
    before, after = folder.scores(0), _scores_of_model(folder, step, averaged)
    scores = [
        (dataset, metric, before.get(dataset, {}).get(metric), value)
        for dataset, metrics in after.items()
        for metric, value in metrics.items()
        if not is_quantised(metric)
    ]
    kinds = {fact["name"]: fact["kind"] for fact in facts.get("evaluation_data", [])}
    base = base_metadata(config.model.name_or_path)
    card = model_card(
        name=config.name,
        metadata=front_matter(config.name, base, _hub_data(facts), scores, kinds),
        base_model=_public(published_name(config.model.name_or_path)),
        dim=encoder.dim,
        max_length=config.model.longest_text,
        matryoshka_dims=config.model.matryoshka_dims,
        prompts=with_names_of_others(prompts),
        recipe_yaml=_public_recipe(config),
        data=[
            (entry["task"], ", ".join(_names(entry["path"])), entry["rows"], entry["hash"])
            for entry in facts.get("data", [])
        ],
        scores=scores,
        facts=_facts(folder, facts, step, encoder.attention, averaged),
        own_code=encoder.own_code,
    )
    more = [sizes_section(after), "" if averaged is None else averaged.section()]
    return "\n".join([card, *filter(None, more)])


def _hub_data(facts: Mapping[str, Any]) -> list[str]:
    return [name for entry in facts.get("data", []) for name in entry.get("hub_names", []) if hub_name(name)]


def _scores_of_model(folder: RunFolder, step: int | None, averaged: AveragedWeights | None) -> Mapping[str, Any]:
    """Those of averaged weights, or those recorded at this very step; data set → metric → value. Unknown: none."""
    if averaged is not None:
        return json_values(averaged.after or {})
    return {} if step is None else folder.scores(step)


def _facts(
    folder: RunFolder,
    facts: Mapping[str, Any],
    step: int | None,
    attention: str | None,
    averaged: AveragedWeights | None,
) -> dict[str, Any]:
    """What else the card says of the training. facts: those of run.json. attention: who reads it rightly."""
    versions = facts.get("versions", {})
    return {
        "steps": (step or facts.get("steps")) if averaged is None else averaged.words,
        "ranks": facts.get("world_size"),
        **({"attention": attention} if attention else {}),
        **{f"changed after step {entry['step']}": _words(entry["changed"]) for entry in folder.changes.read()},
        **{name: versions.get(name) for name in ("harness", "torch", "deepspeed", "transformers")},
    }


def _words(changed: Mapping[str, Any]) -> str:
    return "; ".join(f"{key}: {old} → {new}" for key, (old, new) in changed.items()) or "nothing"


def _public_recipe(config: RunConfig) -> str:
    """The recipe without what only means something on this machine: its folders, and the folders above its files."""
    tree = config.model_dump(mode="json")
    del tree["output"]
    tree["data"].pop("cache", None)
    return dump_tree(_without_folders(tree))


def _without_folders(tree: Any, key: str = "") -> Any:
    if isinstance(tree, dict):
        return {name: _without_folders(value, name) for name, value in tree.items()}
    if isinstance(tree, list):
        return [_without_folders(value, key) for value in tree]
    return _public(tree) if key in _KEYS_OF_PATHS and isinstance(tree, str) else tree


def _names(path: str | Sequence[str]) -> list[str]:
    """The names of a task's files or folders, or of its hub data set."""
    return [_public(path)] if isinstance(path, str) else [_public(one) for one in path]


def _public(path: str) -> str:
    """A path as others may see it: of an absolute one, or one in a home, the last part; a hub name as it is."""
    return PurePath(path).name if path.startswith(("/", "~")) or PurePath(path).is_absolute() else path
