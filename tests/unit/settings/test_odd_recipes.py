"""What a fuzzer has found in recipes: values that PyYAML or json do not expect are refused in one line."""

import pytest

from harness.config import load_recipe
from harness.settings import checked_json
from harness.settings.yaml_text import parse_yaml


@pytest.mark.parametrize(
    "text",
    ["a: !!int ''", "a: !!bool maybe", "a: !!float ''", "a: !!timestamp x", "? [a, b]\n: c", "? {a: b}\n: c"],
)
def test_values_that_the_yaml_library_does_not_expect_are_one_line(tmp_path, text):
    (tmp_path / "r.yaml").write_text(text)
    with pytest.raises(ValueError, match=r"r\.yaml") as caught:
        load_recipe(str(tmp_path / "r.yaml"))
    assert type(caught.value) is ValueError
    assert "\n" not in str(caught.value)


def test_a_list_as_a_key_is_no_key_of_a_recipe(tmp_path):
    (tmp_path / "r.yaml").write_text("name: x\nmodel:\n  ? !!python/tuple [a]\n  : 1\n")
    with pytest.raises(ValueError, match=r"r\.yaml"):
        load_recipe(str(tmp_path / "r.yaml"))


def test_json_nested_too_deeply_is_a_value_error():
    """The standard library raises RecursionError, which nobody expects of a damaged file."""
    with pytest.raises(ValueError, match="nested too deeply"):
        checked_json.loads("[" * 100_000)
    assert checked_json.loads('{"a": [1]}') == {"a": [1]}


def test_a_whole_number_of_yaml_is_still_one():
    assert parse_yaml("a: !!int '7'", "r.yaml") == {"a": 7}
