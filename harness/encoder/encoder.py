"""The module that is trained: token ids and their mask in, one unnormalised embedding per text out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
import xxhash
from torch import Tensor, nn
from transformers import PreTrainedConfig, PreTrainedModel

from harness.encoder.attention.soft_mask import SoftMask
from harness.encoder.dropout import CheapDropout
from harness.model_folder.configuration import is_bidirectional
from harness.model_folder.layout import Layout
from harness.model_folder.pooling import POOLINGS, PoolingMode

_PLAIN = Layout()


class Encoder(nn.Module):
    """embedding = head(pool(backbone(tokens))). Not normalised at the end, because losses and metrics use cosines."""

    def __init__(
        self,
        backbone: PreTrainedModel,
        pooling_modes: Sequence[PoolingMode],
        head: nn.ModuleList | None = None,
        *,
        layout: Layout = _PLAIN,
        normalize: bool = True,
    ) -> None:
        """head: modules of sentence-transformers, in the order in which they change the pooled vector.

        layout: what the model folder says; an export repeats what training does not change.
        normalize: whether the exported folder gives embeddings of length 1.
        """
        super().__init__()
        self.backbone = backbone
        self.pooling_modes = tuple(pooling_modes)
        self.head = nn.ModuleList() if head is None else head
        self.layout, self.normalize = layout, normalize
        self.has_cheap_dropout = True  # on a CPU
        self.is_compiled = False  # see compile.py
        self.soft_mask: SoftMask | None = None  # set for training with `model.attention_mask: soft`
        # Weights of the model folder that embeddings do not depend on. They are kept for the exported folder.
        self.unused_backbone_state: dict[str, Tensor] = {}
        self.adapter: Any = None  # peft's settings of the adapter in the backbone, whose other weights are frozen
        self.frozen_weights: str | None = None  # hash of the weights that are not trained; None: all are, or not asked

    def forward(self, input_ids_BL: Tensor, attention_mask_BL: Tensor, pooling_mask_BL: Tensor | None = None) -> Tensor:
        """Embeddings [B, D], float32 whatever the weights are.

        Vectors are pooled in float32, and between the head's modules they are float32, too; a module computes in the
        dtype of its weights. Autocast, where it is on, ends with the backbone's last state.
        pooling_mask_BL: the attention mask without the tokens that are not pooled; None: all of it is pooled.
        """
        with self._dropout(input_ids_BL):
            return self._embed(input_ids_BL, attention_mask_BL, pooling_mask_BL)

    def _dropout(self, input_ids_BL: Tensor) -> AbstractContextManager[object]:
        is_cheap = self.has_cheap_dropout and input_ids_BL.device.type == "cpu"
        return CheapDropout(own_masks=not self.is_compiled) if self.training and is_cheap else nullcontext()

    def _embed(self, input_ids_BL: Tensor, attention_mask_BL: Tensor, pooling_mask_BL: Tensor | None) -> Tensor:
        return self.pooled(self.states(input_ids_BL, attention_mask_BL), attention_mask_BL, pooling_mask_BL)

    def states(self, input_ids_BL: Tensor, attention_mask_BL: Tensor) -> Tensor:
        """The backbone's last states [B, L, D]."""
        read = (
            attention_mask_BL if self.soft_mask is None else self.soft_mask.of(attention_mask_BL, self.backbone.dtype)
        )
        return self.backbone(input_ids=input_ids_BL, attention_mask=read).last_hidden_state

    def pooled(self, state_BLD: Tensor, attention_mask_BL: Tensor, pooling_mask_BL: Tensor | None) -> Tensor:
        """The embeddings [B, D] of texts with these states."""
        mask_BL = attention_mask_BL if pooling_mask_BL is None else pooling_mask_BL
        with torch.autocast(state_BLD.device.type, enabled=False):
            pooled = [POOLINGS[mode].pool(state_BLD, mask_BL, attention_mask_BL).float() for mode in self.pooling_modes]
            pooled_BD = pooled[0] if len(pooled) == 1 else torch.cat(pooled, dim=1)
            for module in self.head:
                weight = next(module.parameters(), pooled_BD)
                pooled_BD = module({"sentence_embedding": pooled_BD.to(weight.dtype)})["sentence_embedding"].float()
        return pooled_BD

    def load_trained(self, state: Mapping[str, Tensor]) -> None:
        """Take over the trained weights, and those of the others that are there; every trained one must be."""
        missing, unexpected = self.load_state_dict(dict(state), strict=False)
        frozen = {name for name, weight in self.named_parameters(remove_duplicate=False) if not weight.requires_grad}
        lost = [name for name in missing if name not in frozen] if self.adapter is not None else missing
        assert not lost, lost
        assert not unexpected, unexpected

    def merge_adapter(self) -> None:
        """Make plain weights of the backbone's weights and its adapter, in place; see `merge_adapter`."""
        from harness.encoder.partial.adapter import merge_adapter  # its import takes a second

        merge_adapter(self.backbone)
        self.adapter = None

    @property
    def pooling(self) -> str:
        """How token states become one vector, in words: banks and tables of embeddings keep it beside their weights."""
        prompt = "" if self.layout.include_prompt else ", prompt not pooled"
        attention = ", bidirectional attention" if is_bidirectional(self.backbone.config) else ""
        return " + ".join(self.pooling_modes) + prompt + attention

    @property
    def pooled_dim(self) -> int:
        """Number of dimensions of the pooled vector, before the head."""
        return state_dim(self.backbone.config) * len(self.pooling_modes)

    @property
    def dim(self) -> int:
        """Number of embedding dimensions."""
        sizes = [int(getattr(module, "out_features", 0)) for module in self.head]
        return next(filter(None, reversed(sizes)), self.pooled_dim)


def state_dim(config: PreTrainedConfig) -> int:
    """Number of dimensions of a token's last state in a backbone with this configuration."""
    text_config = config.get_text_config()
    return getattr(text_config, "word_embed_proj_dim", None) or text_config.hidden_size  # the former in OPT


def frozen_fingerprint(encoder: Encoder) -> str | None:
    """Hash of the weights that are not trained; None if all are. A checkpoint is continued only beside the same."""
    frozen = {name: weight for name, weight in encoder.named_parameters() if not weight.requires_grad}
    return fingerprint(frozen) if frozen else None


def fingerprint(state: Mapping[str, Tensor]) -> str:
    """Hash of all names and weights of a state_dict. It does not depend on the file that they were loaded from."""
    digest = xxhash.xxh3_128()
    for name, tensor in sorted(state.items()):
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().float().contiguous().numpy().tobytes())
    return digest.hexdigest()
