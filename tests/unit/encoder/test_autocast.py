"""Where autocast ends in an encoder."""

from __future__ import annotations

import torch

from tests.golden_encoders import tiny_encoder


def test_autocast_ends_with_the_backbone_and_pooling_and_head_are_float32():
    encoder = tiny_encoder().eval()
    ids_BL = torch.randint(5, 100, (4, 9), generator=torch.Generator().manual_seed(0))
    mask_BL = torch.ones_like(ids_BL)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found_BD = encoder(ids_BL, mask_BL)
        state_BLD = encoder.backbone(input_ids=ids_BL, attention_mask=mask_BL).last_hidden_state
    expected_BD = encoder.head[0]({"sentence_embedding": state_BLD.float().mean(1)})["sentence_embedding"]
    assert found_BD.dtype == torch.float32
    torch.testing.assert_close(found_BD, expected_BD, rtol=0, atol=1e-6)


def test_weights_in_half_precision_still_give_float32_embeddings():
    encoder = tiny_encoder().eval().to(torch.bfloat16)
    ids_BL = torch.full((2, 5), 7)
    assert encoder(ids_BL, torch.ones_like(ids_BL)).dtype == torch.float32
