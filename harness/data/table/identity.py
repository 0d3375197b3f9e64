"""Which texts are one: the only definition, asked by masks, mining, duplicates and labels.

Two texts are one if the model cannot tell them apart: their token ids are equal after prompt and truncation. Then they
have the same embedding, whatever their case, blanks or endings. They are one, too, if their raw texts are equal: tasks
may put different prompts before the same text. If a and b are one, and b and c are one, so are a and c.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import xxhash

from harness.data.distinct import is_first_of_equal, numbered


def text_hash(text: str) -> int:
    """A 64-bit hash of the raw text. It decides whether a document is a known positive of a query."""
    return xxhash.xxh3_64_intdigest(text.encode("utf-8"))


def token_hash(ids: Sequence[int]) -> int:
    """A 64-bit hash of token ids, and of where pooling begins. Texts of a step with equal hashes are encoded once."""
    return hash_of_ids(np.asarray(ids, dtype=np.int32).data, getattr(ids, "prompt_tokens", 0))


def hash_of_ids(ids: memoryview, prompt_tokens: int) -> int:
    """The token hash of ids in a buffer of int32."""
    if not prompt_tokens:
        return xxhash.xxh3_64_intdigest(ids)
    return xxhash.xxh3_64_intdigest(bytes(ids) + np.int32(-prompt_tokens).tobytes())


@dataclass(frozen=True, slots=True)
class TextKeys:
    """Two hashes of each text: texts that agree in either of them are one."""

    raw_E: np.ndarray  # uint64, of the raw text
    token_E: np.ndarray  # uint64, of the token ids after prompt and truncation

    @classmethod
    def concatenate(cls, parts: Sequence[TextKeys]) -> TextKeys:
        return cls(np.concatenate([part.raw_E for part in parts]), np.concatenate([part.token_E for part in parts]))

    def __len__(self) -> int:
        return len(self.raw_E)

    def __getitem__(self, entries: np.ndarray | slice) -> TextKeys:
        return TextKeys(self.raw_E[entries], self.token_E[entries])

    def is_one_with(self, other: TextKeys) -> np.ndarray:
        """Whether each text is one with the text at the same position of `other`, bool [E]."""
        return (self.raw_E == other.raw_E) | (self.token_E == other.token_E)

    def agree(self, other: TextKeys) -> np.ndarray:
        """Whether both hashes of each text equal those of the text at the same position of `other`, bool [E]."""
        return (self.raw_E == other.raw_E) & (self.token_E == other.token_E)


def identities(keys: TextKeys) -> np.ndarray:
    """A number for each text, int64 [E]; equal numbers mean one text, be it through other texts of `keys`."""
    token_E, _ = numbered(keys.token_E)
    order_E = np.argsort(keys.raw_E)
    is_first_E = is_first_of_equal(keys.raw_E[order_E])
    in_order_E = token_E[order_E]
    if (is_first_E[1:] | (in_order_E[1:] == in_order_E[:-1])).all():  # equal raw texts have equal tokens
        return token_E
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    # A graph whose nodes are the distinct token hashes, then the distinct raw hashes; every text joins two of them.
    raw_E = np.empty(len(keys), dtype=np.int64)
    raw_E[order_E] = np.cumsum(is_first_E) - 1
    num_tokens = int(token_E.max()) + 1
    num_nodes = num_tokens + int(raw_E.max()) + 1
    edges = np.ones(len(keys), dtype=np.int8), (token_E, num_tokens + raw_E)
    _, component_of_node = connected_components(coo_array(edges, shape=(num_nodes, num_nodes)), directed=False)
    return component_of_node[token_E].astype(np.int64)
