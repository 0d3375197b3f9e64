"""A first step that changes nothing is warned of once; one that changes a weight is not."""

import torch

from harness.run.alarms.first_step import FirstStepAlarm

NAN = float("nan")
METRICS = {
    "step": 1,
    "learning_rate": 1e-3,
    "gradient_norm": 0.5,
    "loss": 2.0,
    "positive_similarity": 0.5,
    "negative_similarity": 0.1,
}


def weights(dtype=torch.float32):
    return [torch.nn.Parameter(torch.arange(5_000, dtype=dtype)), torch.nn.Parameter(torch.zeros(3, dtype=dtype))]


def move(weight):
    with torch.no_grad():
        weight[-1] += 1


def test_a_step_that_changes_a_weight_is_not_mentioned():
    some = weights()
    alarm = FirstStepAlarm(some)
    move(some[1])
    assert alarm.message(METRICS) is None


def test_a_step_that_changes_no_weight_is_told_once():
    alarm = FirstStepAlarm(weights())
    message = alarm.message({**METRICS, "learning_rate": 1e-12})
    assert message is not None
    assert message.startswith("step 1 changed no weight: a learning rate of 1e-12 with a gradient of norm 0.5")
    assert alarm.message({**METRICS, "step": 2}) is None


def test_a_gradient_of_zero_is_told_with_the_loss_even_if_weight_decay_moves_weights():
    some = weights()
    alarm = FirstStepAlarm(some)
    move(some[1])
    message = alarm.message({**METRICS, "gradient_norm": 0.0, "loss": 0.0})
    assert message is not None
    assert message.startswith("step 1 changed nothing: its loss is 0 and its gradient 0")


def test_a_first_step_of_a_warm_up_or_with_an_overflow_is_passed_over():
    some = weights()
    alarm = FirstStepAlarm(some)
    assert alarm.message({**METRICS, "learning_rate": 0.0}) is None
    assert alarm.message({**METRICS, "step": 2, "gradient_norm": float("inf")}) is None
    assert (alarm.message({**METRICS, "step": 3}) or "").startswith("step 3 changed no weight")


def test_texts_that_the_model_does_not_tell_apart_are_told():
    some = weights()
    alarm = FirstStepAlarm(some)
    move(some[1])
    message = alarm.message({**METRICS, "positive_similarity": 0.99999994, "negative_similarity": 1.0})
    assert message is not None
    assert "the model tells their texts not apart" in message


def test_a_similarity_that_is_not_known_says_nothing():
    some = weights()
    alarm = FirstStepAlarm(some)
    move(some[1])
    assert alarm.message({**METRICS, "positive_similarity": 1.0, "negative_similarity": NAN}) is None


def test_weights_in_half_precision_may_stay_while_their_copies_move():
    assert FirstStepAlarm(weights(torch.bfloat16)).message(METRICS) is None
