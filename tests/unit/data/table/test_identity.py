"""Which texts are one, compared with a union-find written as loops."""

import numpy as np
import pytest

from harness.data.table.identity import TextKeys, identities


def by_loops(raw, token):
    group = list(range(len(raw)))
    for _ in raw:  # until nothing changes: at most one round per text
        for i in range(len(raw)):
            for j in range(len(raw)):
                if raw[i] == raw[j] or token[i] == token[j]:
                    group[i] = group[j] = min(group[i], group[j])
    return group


@pytest.mark.parametrize("seed", range(6))
def test_texts_are_one_if_a_chain_of_equal_texts_or_equal_tokens_joins_them(seed):
    generator = np.random.default_rng(seed)
    raw, token = (generator.integers(0, 9 + 2 * seed, 14).astype(np.uint64) for _ in range(2))
    found, expected = identities(TextKeys(raw, token)), by_loops(raw, token)
    assert [[a == b for b in found] for a in found] == [[a == b for b in expected] for a in expected]


def test_without_several_prompts_tokens_alone_decide():
    raw, token = np.array([1, 2, 3, 1], dtype=np.uint64), np.array([7, 7, 8, 7], dtype=np.uint64)
    found = identities(TextKeys(raw, token))
    assert found[0] == found[1] == found[3] != found[2]
