"""Learning rate and weight decay groups."""

from itertools import pairwise

import pytest
import torch

from harness.encoder.encoder import Encoder
from harness.engine.config import TrainingConfig
from harness.engine.optimizer import build_optimizer, groups_of, learning_rate, set_step
from tests.golden_encoders import tiny_backbone, tiny_encoder


def rates(**settings):
    training = TrainingConfig(steps=100, learning_rate=1.0, warmup_ratio=0.1, **settings)
    return [learning_rate(training, step) for step in range(1, 101)]


def test_warmup_rises_linearly_to_the_full_rate():
    assert rates(schedule="linear")[:10] == pytest.approx([0.1 * step for step in range(1, 11)])


def test_linear_decay_falls_in_equal_steps_and_ends_one_step_above_zero():
    decay = rates(schedule="linear")[10:]
    assert decay[0] == 1.0
    assert decay[-1] == pytest.approx(1 / 90)
    assert [a - b for a, b in pairwise(decay)] == pytest.approx([1 / 90] * 89)


def test_cosine_decay_is_half_way_at_half_time():
    assert rates(schedule="cosine")[10 + 45] == pytest.approx(0.5)


def test_without_warmup_the_first_step_has_the_full_rate():
    assert learning_rate(TrainingConfig(steps=10, learning_rate=3.0, warmup_ratio=0.0), 1) == 3.0


def test_norms_and_biases_are_not_decayed():
    module = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.LayerNorm(4), torch.nn.Embedding(5, 4))
    optimizer = build_optimizer(module, TrainingConfig(steps=1, weight_decay=0.1), on_cpu=False)
    decayed = {id(p) for group in optimizer.param_groups if group["weight_decay"] for p in group["params"]}
    assert decayed == {id(module[0].weight), id(module[2].weight)}


def test_adam_updates_weights_in_one_fused_pass():
    """Without it, an update takes two to four times the CPU seconds (MiniLM, ZeRO 0 to 3)."""
    optimizer = build_optimizer(torch.nn.Linear(3, 4), TrainingConfig(steps=1), on_cpu=False)
    assert all(group["fused"] for group in optimizer.param_groups)


def test_a_matrix_that_zero_3_has_divided_is_still_a_matrix_to_weight_decay():
    """Divided weights look flat. Before this was seen, nothing decayed under ZeRO-3."""
    module = torch.nn.Linear(4, 3)
    module.weight.ds_shape = module.weight.shape
    module.weight.data = torch.empty(0)
    optimizer = build_optimizer(module, TrainingConfig(steps=1, weight_decay=0.5), on_cpu=False)
    decay = {id(p): group["weight_decay"] for group in optimizer.param_groups for p in group["params"]}
    assert (decay[id(module.weight)], decay[id(module.bias)]) == (0.5, 0.0)


def test_a_layer_learns_at_the_rate_of_its_depth_and_decay_groups_stay_right():
    """rate · decay^(n + 1 - depth): the head at 1, the last layer at decay, the embeddings lowest."""
    encoder, training = tiny_encoder(), TrainingConfig(steps=1, weight_decay=0.1, layer_decay=0.5)
    optimizer = build_optimizer(encoder, training, on_cpu=False)
    groups = groups_of(encoder, training)
    factors = [group.rate_factor for group in groups]
    assert set_step(optimizer.param_groups, factors, training, 1) == training.learning_rate
    names = {id(weight): name for name, weight in encoder.named_parameters()}
    found = {names[id(p)]: (g["lr"], g["weight_decay"]) for g in optimizer.param_groups for p in g["params"]}
    assert found.keys() == set(names.values())
    for name, (rate, decay) in found.items():
        places = (
            ("backbone.embeddings", 3),
            ("backbone.encoder.layer.0", 2),
            ("backbone.encoder.layer.1", 1),
            ("head", 0),
        )
        power = next(power for start, power in places if name.startswith(start))
        assert rate == pytest.approx(training.learning_rate * 0.5**power), name
        assert decay == (0.0 if name.endswith("bias") or "LayerNorm" in name else 0.1), name


def test_frozen_weights_are_not_in_the_optimizer():
    module = torch.nn.Linear(3, 4)
    module.weight.requires_grad_(False)
    optimizer = build_optimizer(module, TrainingConfig(steps=1), on_cpu=False)
    assert [p is module.bias for group in optimizer.param_groups for p in group["params"]] == [True]


def test_layers_that_share_their_weights_have_no_rates_of_their_own():
    encoder = Encoder(tiny_backbone("albert"), ("mean",))
    with pytest.raises(ValueError, match=r"training.layer_decay: got a backbone of type albert with 1 layers of 2"):
        groups_of(encoder, TrainingConfig(steps=1, layer_decay=0.9))
