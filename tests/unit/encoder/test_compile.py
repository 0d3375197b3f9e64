"""`training.compile`: the same embeddings and gradients for any shape from code that is made once, or one line."""

from __future__ import annotations

import pytest
import torch
from torch._dynamo.utils import counters

from harness.encoder import compile as compile_module
from harness.encoder import dropout as dropout_module
from harness.encoder.compile import compile_layers
from tests.golden_encoders import VOCABULARY, tiny_encoder


def gradients(encoder, texts, tokens):
    ids_BL = torch.randint(1, VOCABULARY, (texts, tokens), generator=torch.Generator().manual_seed(tokens))
    mask_BL = torch.ones_like(ids_BL)
    mask_BL[0, tokens // 2 :] = 0
    encoder.zero_grad()
    encoder(ids_BL, mask_BL).square().sum().backward()
    return torch.cat([parameter.grad.flatten() for parameter in encoder.backbone.parameters()])


def test_compiled_layers_give_the_same_gradients_and_are_not_compiled_again_for_another_shape():
    """The same but for rounding: the error against float64 is at most four times that of plain layers."""
    plain, compiled, exact = tiny_encoder().train(), tiny_encoder().train(), tiny_encoder().train().double()
    compile_layers(compiled)
    gradients(compiled, 2, 16)
    counters.clear()
    for texts, tokens in ((3, 8), (8, 40), (5, 24)):
        of_exact = gradients(exact, texts, tokens)
        error, naive_error = ((gradients(e, texts, tokens) - of_exact).abs().max() for e in (compiled, plain))
        assert error <= 4 * naive_error
    assert not counters["stats"]


def test_a_backbone_without_a_list_of_layers_is_refused():
    encoder = tiny_encoder()
    encoder.backbone = torch.nn.Linear(2, 2)
    with pytest.raises(ValueError, match=r"training\.compile: got true, but this backbone has no list of layers"):
        compile_layers(encoder)


def test_a_machine_without_a_compiler_is_told_so_in_one_line(monkeypatch):
    def no_compiler(function):
        def compiled(*_):
            raise RuntimeError("No working C++ compiler found\nin a long report")

        return compiled

    monkeypatch.setattr(compile_module.torch, "compile", no_compiler)
    with pytest.raises(ValueError, match=r"training\.compile: got true, but torch cannot .* C\+\+ compiler") as error:
        compile_layers(tiny_encoder())
    assert "\n" not in str(error.value)


def test_compiled_code_draws_its_dropout_masks_with_torch_s_own_generator(monkeypatch):
    """Masks of ours that have one shape would be drawn once for all of them."""

    def refuse(*_):
        raise AssertionError("one of our masks was drawn")

    monkeypatch.setattr(dropout_module, "draw_mask", refuse)
    encoder, ids_BL = tiny_encoder(0.2).train(), torch.arange(1, 17).reshape(2, 8)
    compile_layers(encoder)
    encoder.backbone.embeddings.eval()
    embeddings = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        with torch.no_grad():
            embeddings.append(encoder(ids_BL, torch.ones_like(ids_BL)))
    assert torch.equal(embeddings[0], embeddings[1])
    assert not torch.equal(embeddings[0], embeddings[2])
