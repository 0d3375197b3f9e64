"""The module that is trained: token ids and their mask in, one unnormalised embedding per text out."""

from __future__ import annotations

from collections.abc import Mapping

import xxhash
from torch import Tensor, nn
from transformers import PreTrainedModel

from harness.model_folder.pooling import POOLINGS, PoolingMode


class Encoder(nn.Module):
    """embedding = projection(pool(backbone(tokens))). Not normalised, because losses and metrics use cosines."""

    def __init__(self, backbone: PreTrainedModel, pooling: PoolingMode, projection: nn.Linear | None) -> None:
        super().__init__()
        self.backbone = backbone
        self.pooling = pooling
        self.projection = projection
        # Weights of the model folder that embeddings do not depend on. They are kept for the exported folder.
        self.unused_backbone_state: dict[str, Tensor] = {}

    def forward(self, input_ids_BL: Tensor, attention_mask_BL: Tensor) -> Tensor:
        """Embeddings [B, D] in the backbone's dtype (mean pooling without projection: float32)."""
        state_BLD = self.backbone(input_ids=input_ids_BL, attention_mask=attention_mask_BL).last_hidden_state
        pooled_BD = POOLINGS[self.pooling].pool(state_BLD, attention_mask_BL)
        if self.projection is None:
            return pooled_BD
        return self.projection(pooled_BD.to(self.projection.weight.dtype))

    @property
    def dim(self) -> int:
        """Number of embedding dimensions."""
        return self.backbone.config.hidden_size if self.projection is None else self.projection.out_features


def fingerprint(state: Mapping[str, Tensor]) -> str:
    """Hash of all names and weights of a state_dict. It does not depend on the file that they were loaded from."""
    digest = xxhash.xxh3_128()
    for name, tensor in sorted(state.items()):
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().float().contiguous().numpy().tobytes())
    return digest.hexdigest()
