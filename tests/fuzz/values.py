"""What inputs are made of: odd values, trees of them, texts of JSON and csv, and bytes that were damaged."""

from __future__ import annotations

import copy
import json
import random
from collections.abc import Sequence
from typing import Any

from hypothesis import strategies as st

ODD_TEXTS = (
    "", " ", "\n", "a", "text", "0", "1", "-1", "1.0", "nan", "true", "null", "[]", '["a", "b"]', "['a']", "{}", "é猫",
    "\ud800", "\x00", "\x1b[31m", "\u2028", "\ufeff", "=1+1", "a\tb", 'a"b', "a,b", "<b>|`", "../..", "/", "~", "%s{0}",
    "1" * 5000, "x" * 3000, "a b\r\nc", "𝟙", "²", "١",
)  # fmt: skip
ODD_NUMBERS = (
    0, 1, -1, 2, 3, 0.5, 1.0, 1e-320, 1e38, 3.5e38, 1e308, float("nan"), float("inf"), -float("inf"), 2**31, 2**63,
    2**64, 10**30, 10**400, -(10**400),
)  # fmt: skip
_KEYS = ("title", "text", "role", "content", "a", "")


class Seed(int):
    """Decides by itself how something is changed, written or damaged."""

    def other(self, number: int) -> Seed:
        """Another seed, which follows from this one."""
        return Seed(random.Random(self * 8 + number).getrandbits(32))


seeds = st.integers(0, 2**32 - 1).map(Seed)
odd_texts = st.sampled_from(ODD_TEXTS)


def tree_of(seed: int) -> Any:
    """An odd value: a text, a number, or a list or an object of such. The same one for a seed."""
    return _tree(random.Random(seed), 3)


def _tree(chance: random.Random, depth: int) -> Any:
    kind = chance.randrange(10 if depth else 7)
    if kind < 3:
        return chance.choice(ODD_TEXTS)
    if kind < 5:
        return chance.choice(ODD_NUMBERS)
    if kind == 5:
        return chance.choice((None, True, False))
    if kind == 6:
        return "".join(
            chr(chance.choice((chance.randrange(128), chance.randrange(0x11000)))) for _ in range(chance.randrange(5))
        )
    inner = [_tree(chance, depth - 1) for _ in range(chance.randrange(4))]
    return inner if kind < 9 else {chance.choice(_KEYS): value for value in inner}


trees = seeds.map(tree_of)


def with_other_seeds(drawn: Any, number: int) -> Any:
    """A drawn input whose seeds are others: the same values, written and damaged in another way."""
    if isinstance(drawn, Seed):
        return drawn.other(number)
    return tuple(with_other_seeds(part, number) for part in drawn) if type(drawn) is tuple else drawn


def as_json(value: Any, seed: int) -> str:
    """A value as JSON, for some seeds nested deeply, with a very long number, or with signs that JSON may leave raw."""
    match seed % 101:
        case 77:
            depth = (50, 900, 1_100, 5_000, 100_000)[seed % 5]
            return "[" * depth + "]" * depth if seed % 2 else '{"a":' * depth + "1" + "}" * depth
        case 78:
            return json.dumps(value, default=str).replace(": ", ": " + "9" * 5_000 + ", ", 1)
        case number:
            is_plain = number % 3 or _has_surrogate(value)
            return json.dumps(value, ensure_ascii=bool(is_plain), default=str)


def _has_surrogate(value: Any) -> bool:
    try:
        str(value).encode()
        json.dumps(value, ensure_ascii=False, default=str).encode()
    except UnicodeEncodeError:
        return True
    return False


_PIECES = (
    b"\x00", b"\xff", b"\xfe\xff", b"\xef\xbb\xbf", b"\r", b"\n", b"\r\n", b"\n\n", b'"', b"'", b",", b":", b"{",
    b"}", b"[",
    b"]", b"\t", b"\\", b"\\u", b"\\ud800", b"1e999", b"-", b"NaN", b"null", b"\x1a", b"\x80", b"\xed\xa0\x80",
    b"&a ", b"*a",
    b"<<: ", b"!!", b"%", b"- ", b"? ", b"|", b">",
)  # fmt: skip


def damaged(data: bytes, seed: int, others: Sequence[bytes] = ()) -> bytes:
    """The bytes; for a third of the seeds flipped, cut, doubled, joined with others, or with pieces put in."""
    if seed % 3 < 2:
        return data
    chance = random.Random(seed)
    result = bytearray(data)
    for _ in range(chance.choice((1, 1, 1, 2, 3, 8))):
        at = chance.randrange(len(result) + 1)
        match chance.randrange(7):
            case 0 if result:
                result[min(at, len(result) - 1)] ^= 1 << chance.randrange(8)
            case 1:
                del result[at:]
            case 2:
                del result[:at]
            case 3:
                result[at:at] = chance.choice(_PIECES) * chance.choice((1, 1, 1, 3, 2_000))
            case 4:
                stop = chance.randrange(at, len(result) + 1)
                result += result[at:stop]
            case 5 if others:
                result += chance.choice(others)
            case _ if result:
                stop = min(len(result), at + chance.randrange(9))
                result[at:stop] = chance.randbytes(stop - at)
            case _:
                result += chance.randbytes(3)
    return bytes(result)


def changed_tree(tree: Any, changes: Sequence[tuple[int, Any, str]]) -> Any:
    """A copy of a tree in which values are replaced, removed, added or given other keys.

    changes: (which node, the new value, what to do: replace, remove, add or rename) one after another.
    """
    copied = json.loads(json.dumps(tree))
    for number, drawn, action in changes:
        value = copy.deepcopy(drawn)  # a later change may change it, too
        places = list(_places(copied))
        if not places:
            return value
        parent, key = places[number % len(places)]
        if action == "replace":
            parent[key] = value
        elif action == "remove":
            del parent[key]
        elif isinstance(parent, dict):
            name = value if isinstance(value, str) else "unknown_key"
            parent[name] = parent.pop(key) if action == "rename" else value
        else:
            parent.append(value)
    return copied


def _places(tree: Any) -> list[tuple[Any, Any]]:
    found: list[tuple[Any, Any]] = []
    for key, value in tree.items() if isinstance(tree, dict) else enumerate(tree):
        found.append((tree, key))
        if isinstance(value, dict | list):
            found += _places(value)
    return found


def changes_of(words: Sequence[str] = ()) -> st.SearchStrategy[list[tuple[int, Any, str]]]:
    """Changes for `changed_tree`. words: texts that mean something where they may be put."""
    value = st.one_of(trees, st.sampled_from(words)) if words else trees
    action = st.sampled_from(("replace", "replace", "replace", "remove", "add", "rename"))
    return st.lists(st.tuples(st.integers(0, 500), value, action), max_size=3)
