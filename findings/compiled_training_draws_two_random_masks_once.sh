#!/usr/bin/env bash
# torch 2.13.0: a random operation of one's own (torch.library.custom_op) inside torch.compile, called twice alike.
#
# Expected: two calls draw twice, in training as in inference; the tag `nondeterministic_seeded`, which says that an operation
# draws random numbers, keeps the compiler from taking two equal calls for one.
# Seen: without a gradient the operation is called twice. If an input needs a gradient, it is called once, and its result
# is used twice: two dropouts of one shape and rate get the same mask. With the tag and without it alike.
#
# Dropout with masks of one's own must therefore stay outside of compiled code, or take a different argument in each call.
#
# Versions seen: torch 2.13.0 (CPU), Python 3.11, g++ 12. Exit status 1: the behaviour has changed.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q torch==2.13.0 numpy==2.4.6 setuptools
cat >"$folder/run.py" <<'PYTHON'
import sys

import torch

print("version: torch", torch.__version__)
calls = []


def random_operation(name, tags):
    @torch.library.custom_op(name, mutates_args=(), tags=tags)
    def draw(shape: list[int]) -> torch.Tensor:
        calls.append(name)
        return torch.rand(shape) < 0.5

    @draw.register_fake
    def _(shape):
        return torch.empty(shape, dtype=torch.bool)

    return draw


seen = {}
for name, tags in (("tagged", (torch.Tag.nondeterministic_seeded,)), ("untagged", ())):
    draw = random_operation(f"finding::{name}", tags)

    def two_masks(states, draw=draw):
        return states * draw(list(states.shape)), states * draw(list(states.shape))

    for needs_gradient in (False, True):
        torch._dynamo.reset()
        calls.clear()
        states = torch.randn(64).requires_grad_(needs_gradient)
        first, second = torch.compile(two_masks)(states)
        alike = torch.equal(first != 0, second != 0)
        seen[name, needs_gradient] = (len(calls), alike)
        print(f"result: {name}, gradient {needs_gradient}: drawn {len(calls)} times, the two masks are equal: {alike}")

expected = {key: (1, True) if key[1] else (2, False) for key in seen}
sys.exit(None if seen == expected else f"changed: {seen}")
PYTHON
"$folder/venv/bin/python" "$folder/run.py"
