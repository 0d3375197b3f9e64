"""Loads a cross-encoder of sentence-transformers, and scores pairs of texts with it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from harness import comm
from harness.encoder.encoder import fingerprint
from harness.model_folder.find import in_one_line, resolve_model

if TYPE_CHECKING:
    from sentence_transformers import CrossEncoder

OPTION = "--cross-encoder"


class CrossEncoderScorer:
    """Scores (query, document) pairs as the folder says: its own lengths, activation and default prompt.

    identity: everything that the scores depend on.
    """

    def __init__(self, model: CrossEncoder, name: str) -> None:
        self._model = model
        self.identity: dict[str, Any] = {
            "name": name,
            "weights": fingerprint(model.state_dict()),
            "max_length": model.max_seq_length,
            "activation": str(model.activation_fn),
            "prompt": model.prompts.get(model.default_prompt_name) if model.default_prompt_name else None,
        }

    @staticmethod
    def check(name: str, trust_remote_code: bool = False) -> None:
        """Check what can be seen without loading weights. No collectives.

        Raises:
            ValueError: as `load`.
        """
        _resolved(name, trust_remote_code)

    @classmethod
    def load(cls, name: str, trust_remote_code: bool = False) -> CrossEncoderScorer:
        """Load the folder, or the model of this name in a hub, on this rank's device.

        Raises:
            ValueError: no such model, no cross-encoder, or one with several labels; one line.
        """
        folder = _resolved(name, trust_remote_code)
        from sentence_transformers import CrossEncoder

        try:
            model = CrossEncoder(
                folder, device=str(comm.device()), trust_remote_code=trust_remote_code, local_files_only=True
            )
        except Exception as error:  # whatever transformers and sentence-transformers find wrong in a folder
            raise ValueError(
                f"{OPTION}: got {name}, which cannot be loaded ({in_one_line(error)}), expected a folder that "
                "sentence-transformers' CrossEncoder reads; name another one"
            ) from error
        if model.num_labels != 1:
            raise ValueError(
                f"{OPTION}: got {name} with {model.num_labels} labels, expected a ranker with one, the score of a "
                "query and a document; name another one"
            )
        _shorten_to_positions(model)
        return cls(model.eval(), os.path.basename(os.path.normpath(name)) if Path(name).exists() else name)

    def __call__(self, pairs: Sequence[tuple[str, str]]) -> np.ndarray:
        """Its score of every pair, float32 [E].

        Raises:
            ValueError: a score is not finite; shows the pair.
        """
        if not pairs:
            return np.empty(0, dtype=np.float32)
        score_E = np.asarray(self._model.predict(list(pairs), show_progress_bar=False), dtype=np.float32).reshape(-1)
        if not np.isfinite(score_E).all():
            query, document = pairs[int(np.argmin(np.isfinite(score_E)))]
            raise ValueError(
                f"{OPTION}: got the score {score_E[~np.isfinite(score_E)][0]} for {query[:60]!r} and "
                f"{document[:60]!r}, expected a finite one; use another model"
            )
        return score_E


def _resolved(name: str, trust_remote_code: bool) -> str:
    try:
        folder = resolve_model(name, trust_remote_code)
    except ValueError as error:
        raise ValueError(str(error).replace("model.name_or_path:", f"{OPTION}:", 1)) from error
    if not (Path(folder) / "config.json").is_file() and not (Path(folder) / "modules.json").is_file():
        raise ValueError(
            f"{OPTION}: got {name} without config.json or modules.json, expected a folder that sentence-transformers' "
            "CrossEncoder has saved"
        )
    problem = _not_a_ranker(Path(folder))
    if problem is not None:
        raise ValueError(
            f"{OPTION}: got {name}, {problem}, expected a ranker that scores a query with a document, a model of "
            "sentence-transformers' CrossEncoder; name another one"
        )
    return folder


def _not_a_ranker(folder: Path) -> str | None:
    """Why the folder holds no cross-encoder, in words; None if it may hold one.

    A folder without a trained classifier would be given one of random weights, and score at random.
    """
    from harness.model_folder.json_files import read_json

    if (folder / "config_sentence_transformers.json").is_file():
        kind = read_json(folder / "config_sentence_transformers.json", dict).get("model_type")
        if kind is not None:
            return None if kind == "CrossEncoder" else f"a {kind}"
    if (folder / "modules.json").is_file():
        kinds = [str(module.get("type")) for module in read_json(folder / "modules.json", list)]
        return "an embedding model" if any(kind.endswith("Pooling") for kind in kinds) else None
    architectures = read_json(folder / "config.json", dict).get("architectures") or ["of an unknown kind"]
    if not str(architectures[0]).endswith(("ForSequenceClassification", "ForCausalLM")):
        return f"whose model is {architectures[0]}"
    return None


def _shorten_to_positions(model: CrossEncoder) -> None:
    """A tokenizer that states no limit must not give more tokens than the model has positions."""
    from harness.model_folder.configuration import positions_of_tokens

    positions = positions_of_tokens(model.config)
    if positions is not None and (model.max_seq_length is None or model.max_seq_length > positions):
        model.max_seq_length = positions
