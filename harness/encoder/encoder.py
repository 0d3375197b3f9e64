"""Backbone → pooling → projection. One module, no ranks, no loss: TokenBatch in, embeddings out."""

from __future__ import annotations

import warnings
from collections.abc import Mapping

import torch
import xxhash
from torch import Tensor, nn
from transformers import AutoConfig, AutoModel, PreTrainedModel

from harness.encoder.config import ModelConfig, PoolingMode
from harness.encoder.layout import Layout, read_layout
from harness.encoder.pooling import POOLING
from harness.weights import no_such_model, position_limit, resolve_model


class Encoder(nn.Module):
    """embedding = projection(pool(backbone(tokens))), unnormalised: losses and metrics take cosines."""

    def __init__(self, backbone: PreTrainedModel, pooling: PoolingMode, projection: nn.Linear | None) -> None:
        super().__init__()
        self.backbone = backbone
        self.pooling = pooling
        self.projection = projection
        # Weights the folder brought that no embedding depends on; kept aside so that an export is complete.
        self.unused_backbone_state: dict[str, Tensor] = {}

    def forward(self, input_ids_BL: Tensor, attention_mask_BL: Tensor) -> Tensor:
        """Embeddings [B, D] in the backbone's dtype (mean pooling without projection: float32)."""
        state_BLD = self.backbone(input_ids=input_ids_BL, attention_mask=attention_mask_BL).last_hidden_state
        pooled_BD = POOLING[self.pooling](state_BLD, attention_mask_BL)
        if self.projection is None:
            return pooled_BD
        return self.projection(pooled_BD.to(self.projection.weight.dtype))

    @property
    def dim(self) -> int:
        """Number of embedding dimensions."""
        return self.backbone.config.hidden_size if self.projection is None else self.projection.out_features


def load_encoder(config: ModelConfig, dropout: float | None = None, seed: int = 0) -> Encoder:
    """Weights from safetensors, float32; a new projection is drawn from `seed`.

    A sentence-transformers folder brings its Dense layer along when `projection_dim` asks for its size; a pooling
    other than the folder's is a UserWarning. `dropout` is for this training: the backbone's config keeps its own.

    Raises:
        ValueError: no such model, no safetensors weights, dims that do not fit, or no dropout that could be set.
    """
    path = resolve_model(config.name_or_path, config.trust_remote_code)
    backbone, unused = _load_backbone(config, path, dropout)
    layout = read_layout(path)
    if layout.pooling not in (None, config.pooling):
        warnings.warn(
            f"model.pooling: got {config.pooling}, but {config.name_or_path} was trained with {layout.pooling}; "
            f"set model.pooling: {layout.pooling} unless the change is meant",
            stacklevel=1,
        )
    if config.gradient_checkpointing:
        backbone.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    projection = _load_projection(config, layout, backbone.config.hidden_size, seed)
    encoder = Encoder(backbone, config.pooling, projection)
    encoder.unused_backbone_state = unused
    if config.matryoshka_dims and config.matryoshka_dims[-1] > encoder.dim:
        raise ValueError(
            f"model.matryoshka_dims: got {config.matryoshka_dims[-1]}, but the embedding has {encoder.dim} "
            "dimensions; lower it or set model.projection_dim"
        )
    return encoder


def config_of_folder(
    name_or_path: str,
    *,
    max_length: int | None = None,
    pooling: PoolingMode | None = None,
    trust_remote_code: bool = False,
) -> ModelConfig:
    """A model as it was trained: pooling, projection and length as its folder says; mean and at most 512 if it is mute.

    Raises:
        ValueError: no such model, or a folder with modules that cannot be reproduced.
    """
    layout = read_layout(resolve_model(name_or_path, trust_remote_code))
    longest = longest_text(name_or_path, trust_remote_code)
    return ModelConfig(
        name_or_path=name_or_path,
        pooling=pooling or layout.pooling or "mean",
        projection_dim=None if layout.projection is None else int(layout.projection["weight"].shape[0]),
        max_length=max_length or layout.max_length or min(512, longest or 512),
        trust_remote_code=trust_remote_code,
    )


def fingerprint(state: Mapping[str, Tensor]) -> str:
    """Hash of all weights of a state_dict, by name: equal for equal models, whatever file they came from."""
    digest = xxhash.xxh3_128()
    for name, tensor in sorted(state.items()):
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().float().contiguous().numpy().tobytes())
    return digest.hexdigest()


def longest_text(name_or_path: str, trust_remote_code: bool = False) -> int | None:
    """Tokens a backbone's positions take; None where it has no such limit.

    Raises:
        ValueError: no such model.
    """
    path = resolve_model(name_or_path, trust_remote_code)
    try:
        return position_limit(AutoConfig.from_pretrained(path, trust_remote_code=trust_remote_code))
    except OSError as error:
        raise ValueError(no_such_model(name_or_path, error)) from error


def _load_backbone(config: ModelConfig, path: str, dropout: float | None) -> tuple[PreTrainedModel, dict[str, Tensor]]:
    arguments: dict = {"trust_remote_code": config.trust_remote_code}
    try:
        settings = AutoConfig.from_pretrained(path, **arguments)
        longest = position_limit(settings)
        wanted = max(config.max_length, config.query_max_length or 0, config.document_max_length or 0)
        if longest is not None and wanted > longest:
            raise ValueError(
                f"model.max_length: got {wanted}, but {config.name_or_path} takes at most {longest} tokens"
            )
        own_dropout = {} if dropout is None else _set_dropout(settings, dropout, config.name_or_path)
        if config.attention != "auto":
            arguments["attn_implementation"] = config.attention
        backbone = AutoModel.from_pretrained(
            path, config=settings, use_safetensors=True, dtype=torch.float32, **arguments
        )
    except OSError as error:
        reason = " ".join(str(error).split())
        raise ValueError(
            f"model.name_or_path: got {config.name_or_path}, expected a folder or hub name with safetensors "
            f"weights ({reason}); convert .bin weights with safetensors first"
        ) from error
    for name, value in own_dropout.items():
        setattr(backbone.config, name, value)
    pooler = getattr(backbone, "pooler", None)
    if pooler is None:
        return backbone, {}
    backbone.pooler = None  # stands behind the token states we pool: it would never get a gradient
    return backbone, {f"pooler.{name}": value.clone() for name, value in pooler.state_dict().items()}


def _set_dropout(settings: object, dropout: float, model: str) -> dict[str, float]:
    """Set every dropout of a configuration; returns what they were."""
    own = {
        name: value
        for name, value in vars(settings).items()
        if ("dropout" in name or "pdrop" in name) and isinstance(value, float | int) and not isinstance(value, bool)
    }
    if not own and dropout > 0:
        raise ValueError(
            f"training.dropout: got {dropout}, but {model} has no dropout that could be set; set training.dropout: null"
        )
    for name in own:
        setattr(settings, name, dropout)
    return own


def _load_projection(config: ModelConfig, layout: Layout, hidden: int, seed: int) -> nn.Linear | None:
    stored = layout.projection
    if config.projection_dim is None:
        if stored is not None:
            out_features = stored["weight"].shape[0]
            raise ValueError(
                f"model.projection_dim: got null, but {config.name_or_path} has a Dense layer {hidden} → "
                f"{out_features}; set model.projection_dim: {out_features}"
            )
        return None
    generator = torch.Generator().manual_seed(seed)
    projection = nn.Linear(hidden, config.projection_dim)
    if stored is not None and stored["weight"].shape == projection.weight.shape:
        projection.load_state_dict(stored)
    else:
        bound = hidden**-0.5
        for parameter in projection.parameters():
            nn.init.uniform_(parameter, -bound, bound, generator=generator)
    return projection
