"""Dropout on a CPU: masks of the stated rate, independent, the same again where they must be, and torch's formulas."""

from __future__ import annotations

from contextlib import nullcontext

import numpy as np
import pytest
import torch
from torch.nn.functional import dropout, scaled_dot_product_attention

from harness.encoder.dropout import CheapDropout, draw_mask
from harness.encoder.load import load_encoder
from tests.tiny import make_model
from tests.unit.encoder.models import config

RATE = 0.1


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return make_model(tmp_path_factory.mktemp("model"))


@pytest.fixture
def tokens():
    generator = torch.Generator().manual_seed(0)
    ids_BL = torch.randint(5, 50, (4, 20), generator=generator)
    mask_BL = (torch.arange(20)[None] < torch.tensor([20, 3, 11, 20])[:, None]).long()
    return ids_BL, mask_BL


def keeps(shape, seed):
    torch.manual_seed(seed)
    return draw_mask(shape, round(RATE * 65536)).double()


def test_as_many_elements_are_dropped_as_the_rate_says():
    """5 standard deviations of the mean of 4 million draws are 7.5e-4; eight bits an element would be off by 1.6e-3."""
    assert abs(float(keeps((2000, 2000), 1).mean()) - (1 - RATE)) < 5 * (RATE * (1 - RATE) / 4e6) ** 0.5


def test_no_element_of_a_mask_tells_of_another():
    """Correlations of neighbours, of the four elements of a word, of rows, and of the masks of successive seeds."""
    first, second = keeps((1000, 1000), 1) - (1 - RATE), keeps((1000, 1000), 2) - (1 - RATE)
    flat, variance = first.flatten(), RATE * (1 - RATE)
    products = {f"distance {k}": flat[k:] * flat[:-k] for k in (1, 2, 3, 4, 5, 8, 64, 1000)}
    products["seeds"] = flat * second.flatten()
    for name, product in products.items():
        assert abs(float(product.mean()) / variance) < 5 / len(product) ** 0.5, name
    # The number of kept elements of a position over many masks is binomial, at every position alike.
    counts = sum(keeps((50, 60), seed) for seed in range(400))
    assert abs(float(counts.var()) / (400 * variance) - 1) < 5 * (2 / 3000) ** 0.5


def test_what_is_kept_is_scaled_and_the_gradient_has_the_same_mask():
    input = torch.randn(300, 100, requires_grad=True)
    with CheapDropout():
        output = dropout(input, RATE, training=True)
    output.sum().backward()
    kept = output != 0
    scale = 65536 / (65536 - round(RATE * 65536))
    assert 0 < int((~kept).sum()) < kept.numel()
    torch.testing.assert_close(output[kept], input[kept] * scale)
    torch.testing.assert_close(input.grad, kept * torch.tensor(scale))


@pytest.mark.parametrize("options", [{}, {"is_causal": True}, {"attn_mask": "bool"}, {"attn_mask": "float"},
                                     {"scale": 0.3}, {"enable_gqa": True}])  # fmt: skip
def test_attention_with_dropout_is_torch_s_formula_with_one_of_our_masks(options):
    """With the values of all keys 1, an output is the kept share of its weights; the mask is drawn again beside it."""
    generator = torch.Generator().manual_seed(3)
    query, key, value = (torch.randn(2, heads, 7, 8, generator=generator) for heads in (4, 2, 2))
    if not options.get("enable_gqa"):
        key, value = key.repeat(1, 2, 1, 1), value.repeat(1, 2, 1, 1)
    visible = torch.rand(2, 1, 7, 7, generator=generator) < 0.6
    visible[:, :, 0] = False  # a row in which everything is masked
    masks = {"bool": visible, "float": torch.randn(2, 1, 7, 7, generator=generator)}
    options = {**options, "attn_mask": masks.get(options.get("attn_mask"))}
    one_hot = torch.eye(7).expand(2, value.shape[1], 7, 7)
    weights = scaled_dot_product_attention(query, key, one_hot, **options)  # the weights themselves
    torch.manual_seed(5)
    kept = draw_mask(weights.shape, round(RATE * 65536))
    groups = query.shape[1] // value.shape[1]
    expected = (weights * kept * (65536 / (65536 - round(RATE * 65536)))) @ value.repeat_interleave(groups, 1)
    torch.manual_seed(5)
    with CheapDropout():
        output = scaled_dot_product_attention(query, key, value, dropout_p=RATE, **options)
    torch.testing.assert_close(output, expected)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("options", [{}, {"is_causal": True}, {"attn_mask": "bool"}, {"attn_mask": "masked row"},
                                     {"scale": 0.3}, {"enable_gqa": True}])  # fmt: skip
def test_attention_of_short_texts_is_as_exact_as_torch_s_own(options, dtype):
    generator = torch.Generator().manual_seed(3)
    states = [torch.randn(2, heads, 7, 8, generator=generator).to(dtype) for heads in (4, 2, 2)]
    if not options.get("enable_gqa"):
        states[1:] = [heads.repeat(1, 2, 1, 1) for heads in states[1:]]
    visible = torch.rand(2, 1, 7, 7, generator=generator) < 0.6
    visible[:, :, :, 0] = True
    no_row = visible.clone()
    no_row[:, :, 0] = False  # everything is masked for the first token
    options = {**options, "attn_mask": {"bool": visible, "masked row": no_row}.get(options.get("attn_mask"))}

    def results(dtype, context):
        leaves = [state.to(dtype, copy=True).requires_grad_() for state in states]
        with context:
            output = scaled_dot_product_attention(*leaves, **options)
        (output.double() * torch.linspace(-1, 1, 8)).sum().backward()
        return [output.detach().double(), *(leaf.grad.double() for leaf in leaves)]

    exact = results(torch.float64, nullcontext())
    naive, ours = results(dtype, nullcontext()), results(dtype, CheapDropout())
    for result, plain, right in zip(ours, naive, exact, strict=True):
        allowed = 2 * float((plain - right).abs().max()) + torch.finfo(dtype).eps
        assert float((result - right).abs().max()) <= allowed


def test_attention_of_long_texts_and_that_with_a_learned_bias_is_torch_s_own():
    for tokens, bias in ((97, None), (16, torch.randn(1, 1, 16, 16))):
        states = [torch.randn(1, 2, tokens, 8) for _ in range(3)]
        with CheapDropout():
            output = scaled_dot_product_attention(*states, bias)
        assert torch.equal(output, scaled_dot_product_attention(*states, bias))


def test_the_masks_of_a_forward_depend_on_torch_s_generator_alone(folder, tokens):
    encoder = load_encoder(config(folder), dropout=RATE).train()
    embeddings = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        np.random.default_rng().random()
        embeddings.append(encoder(*tokens))
    assert torch.equal(embeddings[0], embeddings[1])
    assert not torch.equal(embeddings[0], embeddings[2])


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_no_mask_of_a_training_forward_is_drawn_by_torch_s_slow_generator(folder, tokens, attention):
    encoder = load_encoder(config(folder, attention=attention), dropout=RATE).train()
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
        encoder(*tokens).sum().backward()
    names = {event.key for event in profile.key_averages()}
    assert not {name for name in names if "bernoulli" in name}
    assert "aten::randint" in names  # and masks were drawn


def test_gradient_checkpointing_draws_the_masks_of_the_forward_again(folder, tokens):
    gradients = []
    for checkpointing in (False, True):
        encoder = load_encoder(config(folder, gradient_checkpointing=checkpointing), dropout=RATE).train()
        torch.manual_seed(1)
        encoder(*tokens).square().sum().backward()
        gradients.append(torch.cat([parameter.grad.flatten() for parameter in encoder.parameters()]))
    torch.testing.assert_close(*gradients)


def test_the_model_keeps_its_modules_configuration_and_names(folder):
    plain, trained = load_encoder(config(folder)), load_encoder(config(folder), dropout=RATE).train()
    assert [type(module) for module in trained.modules()] == [type(module) for module in plain.modules()]
    assert trained.state_dict().keys() == plain.state_dict().keys()
    assert trained.backbone.config.to_dict() == plain.backbone.config.to_dict()
