"""A few lines of YAML can stand for more than any memory holds; they cost one line and no time."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
import yaml

from harness.settings.yaml_text import MOST_BYTES, dump_yaml, parse_yaml, read_yaml

LEVELS = range(1, 40)
LISTS = "a0: &a0 [x, x]\n" + "".join(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]\n" for i in LEVELS)
MERGED = "a0: &a0 {k: 1}\n" + "".join(f"a{i}: &a{i} {{<<: [{', '.join([f'*a{i - 1}'] * 9)}]}}\n" for i in LEVELS)
LONG = "a: &a " + "x" * 100_000 + "\nb: [" + ", ".join(["*a"] * 1000) + "]\n"


@pytest.mark.parametrize("text", [LISTS, MERGED, LONG], ids=["lists", "merged mappings", "a long text"])
def test_aliases_that_stand_for_too_much_are_refused_before_anything_is_made_of_them(text: str) -> None:
    started = time.perf_counter()
    with pytest.raises(ValueError, match=r"^r\.yaml: got aliases that stand for .* values, expected at most 100,000"):
        parse_yaml(text, "r.yaml")
    assert time.perf_counter() - started < 2


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: &a [*a]", "aliases that stand for endlessly many values"),
        ("[" * 2000 + "]" * 2000, "values inside values too deep to read"),
        ("a: " + "1" * 5000, "expected numbers of usual size"),
        ("a: !!int x", "expected numbers of usual size"),
        ("x" * (MOST_BYTES + 1), "got 500,001 characters"),
    ],
    ids=["a list in itself", "deep", "a long number", "no number", "a long file"],
)
def test_what_no_recipe_holds_costs_one_line(text: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=message) as error:
        parse_yaml(text, "r.yaml")
    assert "\n" not in str(error.value)
    (tmp_path / "r.yaml").write_text(text)
    with pytest.raises(ValueError, match=r"^.*r\.yaml: got "):
        read_yaml(tmp_path / "r.yaml")


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("name： a\nmodel: {}\n", "line 1 has the full-width '：' (U+FF1A), YAML knows : only"),
        ("a: {b: 1，c: 2}\n", "line 1 has the full-width '，' (U+FF0C), YAML knows , only"),
        (
            "a:\n  b: 1\n\u3000\u3000c: 2\n  d: 3\n",
            "line 3 has the full-width '\\u3000' (U+3000), YAML knows a blank only",
        ),
    ],
)
def test_a_full_width_sign_in_broken_yaml_is_named(text: str, hint: str) -> None:
    """A Chinese keyboard types them; on many screens they look like YAML's own."""
    with pytest.raises(ValueError, match=r"^r\.yaml:\d: got broken YAML") as error:
        parse_yaml(text, "r.yaml")
    assert str(error.value).endswith(f"; {hint}")


def test_a_full_width_sign_in_a_text_is_no_mistake() -> None:
    assert parse_yaml("p: {query: 为这个句子生成表示：}", "r.yaml") == {"p": {"query": "为这个句子生成表示："}}


@pytest.mark.parametrize(("encoding", "name"), [("gbk", "GB18030"), ("gb18030", "GB18030"), ("utf-16", "UTF-16")])
def test_a_recipe_in_an_encoding_of_windows_says_which_and_how_to_convert_it(
    tmp_path: Path, encoding: str, name: str
) -> None:
    (tmp_path / "r.yaml").write_bytes("# 我的配方\nname: a\n".encode(encoding))
    with pytest.raises(ValueError, match=rf"r\.yaml:1: got byte .*, expected UTF-8 text; it looks like {name}: iconv"):
        read_yaml(tmp_path / "r.yaml")


def test_bytes_of_a_european_encoding_are_not_taken_for_chinese(tmp_path: Path) -> None:
    (tmp_path / "r.yaml").write_bytes("# résumé, café à la crème, Größe\n".encode("latin-1"))
    with pytest.raises(ValueError, match=r"expected UTF-8 text$"):
        read_yaml(tmp_path / "r.yaml")


def test_a_text_of_too_many_values_is_not_said_to_have_aliases() -> None:
    with pytest.raises(ValueError, match=r"^r\.yaml: got 100,004 values, expected at most 100,000"):
        parse_yaml(f"a: [{'1, ' * 100_000}1]", "r.yaml")


def test_aliases_of_a_usual_size_are_read() -> None:
    assert parse_yaml("a: &a {b: 1}\nc: [*a, {<<: *a, d: 2}]", "r.yaml")["c"] == [{"b": 1}, {"b": 1, "d": 2}]


@pytest.mark.parametrize(
    "text",
    ["1e5", "-.5", "010", "08", "1:30", "0o7", "0x1F", "yes", "~", "", " x ", "2024-01-01", "a\nb", "q: ", "# x"],
)
def test_a_text_that_is_written_is_read_as_a_text(text: str) -> None:
    """A run called 2e5, as after its learning rate, could not be continued: its recipe had a number for a name."""
    tree = {"name": text, "list": [text, 1e-5, 10, None, True]}
    assert parse_yaml(dump_yaml(tree), "x") == yaml.safe_load(dump_yaml(tree)) == tree


@pytest.mark.parametrize("text", ["010", "0_1", "1:30", "1:30.5"])
def test_numbers_that_editions_of_yaml_read_differently_stay_texts(text: str) -> None:
    """YAML 1.1 reads 010 as 8 and 1:30 as 90; a strict key refuses the text."""
    assert parse_yaml(text, "x") == text


@pytest.mark.parametrize(
    "text", ["0", "-0", "+5", "1_000", "1.5", ".5", "1.", "1.0e+5", "-.inf", "0x1F", "0b10", "-12"]
)
def test_other_numbers_are_read_as_pyyaml_reads_them(text: str) -> None:
    assert repr(parse_yaml(text, "x")) == repr(yaml.safe_load(text))
