"""The soft mask: its formula, its ends, its schedule, and that it is the same whatever stands beside a text."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
import torch
from transformers import Qwen3Config, Qwen3Model

from harness.encoder.attention.soft_mask import SoftMask, additive_mask
from harness.encoder.encoder import Encoder

TEXTS = torch.tensor([[5, 6, 7, 8, 9, 10], [11, 12, 13, 0, 0, 0]])
MASK = torch.tensor([[1] * 6, [1, 1, 1, 0, 0, 0]])


def encoder(*, causal: bool, soft_mask: SoftMask | None = None) -> Encoder:
    torch.manual_seed(0)
    sizes = {"vocab_size": 60, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "head_dim": 8}
    config = Qwen3Config(**sizes, intermediate_size=64, num_key_value_heads=2, use_cache=False, is_causal=causal)
    backbone = Qwen3Model(config)
    for parameter in backbone.parameters():
        if parameter.dim() > 1:
            torch.nn.init.normal_(parameter, std=0.3)
    made = Encoder(backbone, ("last", "mean")).eval()
    made.soft_mask = soft_mask
    return made


@torch.no_grad()
def vectors(made: Encoder, texts=TEXTS, mask=MASK) -> torch.Tensor:
    return made(texts, mask)


@pytest.mark.parametrize("weight", [0.0, 0.1, 0.4, 0.99, 1.0])
def test_attention_weights_are_those_of_the_formula_by_loops(weight):
    """softmax over j of score + log M = M · exp(score) / Σ M · exp(score), with M of arXiv 2509.12892."""
    score = torch.randn(2, 6, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    found = torch.softmax(score + additive_mask(MASK, weight, torch.float64)[:, 0], -1)
    for text, length in enumerate((6, 3)):
        for i in range(1, length + 1):
            visible = [1.0 if j <= i else min(weight * length / i, 1.0) for j in range(1, length + 1)]
            terms = [m * math.exp(score[text, i - 1, j]) for j, m in enumerate(visible)]
            expected = [term / sum(terms) for term in terms] + [0.0] * (6 - length)
            assert found[text, i - 1].tolist() == pytest.approx(expected, abs=1e-7)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("weight", [0.0, 0.5])
def test_no_row_is_hidden_whole_in_any_number_type(dtype, weight):
    """Such a row would be NaN, and a NaN of padding reaches real tokens through 0 · NaN."""
    left_padded = torch.tensor([[0, 0, 1, 1]])
    assert torch.softmax(additive_mask(left_padded, weight, dtype).float(), -1).isfinite().all()


@pytest.mark.parametrize(("step", "causal"), [(0, True), (4, False), (9, False)])
def test_the_mask_goes_from_causal_to_bidirectional_attention(step, causal):
    soft = SoftMask(4)
    soft.at_step(step)
    expected = vectors(encoder(causal=causal))
    torch.testing.assert_close(vectors(encoder(causal=False, soft_mask=soft)), expected, atol=1e-5, rtol=1e-5)


def test_in_between_each_step_is_another_attention_and_depends_on_the_step_alone():
    soft, again = SoftMask(5), SoftMask(5)
    first = []
    for step in (1, 2, 3):
        soft.at_step(step)
        first.append(vectors(encoder(causal=False, soft_mask=soft)))
    assert all((a - b).abs().max() > 1e-3 for a, b in pairwise(first))
    again.at_step(2)
    assert again.weight == 0.4
    torch.testing.assert_close(vectors(encoder(causal=False, soft_mask=again)), first[1], atol=0, rtol=0)


def test_outside_of_training_attention_is_that_of_the_exported_model():
    soft = SoftMask(5)
    soft.at_step(1)
    soft.is_used = False
    expected = vectors(encoder(causal=False))
    torch.testing.assert_close(vectors(encoder(causal=False, soft_mask=soft)), expected, atol=0, rtol=0)


@pytest.mark.parametrize("kind", ["causal", "bidirectional", "soft"])
def test_the_padding_of_a_text_and_its_side_change_nothing(kind):
    """Rotary positions are relative, and positions of the soft mask count from a text's own first token."""
    soft = SoftMask(3)
    soft.at_step(1)
    made = encoder(causal=kind == "causal", soft_mask=soft if kind == "soft" else None)
    alone = vectors(made, TEXTS[1:, :3], MASK[1:, :3])
    for shift in (0, 3):  # right, left
        padded = vectors(
            made, torch.stack([TEXTS[0], TEXTS[1].roll(shift)]), torch.stack([MASK[0], MASK[1].roll(shift)])
        )
        torch.testing.assert_close(padded[1:], alone, atol=2e-5, rtol=1e-4)
