"""An exported folder goes to a hub file by file, unchanged; what a hub refuses costs one line."""

from __future__ import annotations

from pathlib import Path

import pytest
from huggingface_hub import constants

from harness.export.hub import Upload
from tests.unit.export.fake_hub import FakeHub


@pytest.fixture
def hub(monkeypatch):
    hub = FakeHub()
    monkeypatch.setattr(constants, "ENDPOINT", hub.address)
    monkeypatch.setattr("huggingface_hub.hf_api.constants.ENDPOINT", hub.address)
    monkeypatch.setenv("HF_TOKEN", "hf_ours")
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    yield hub
    hub.close()


@pytest.fixture
def exported(tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    (folder / "1_Pooling").mkdir(parents=True)
    for name in ("config.json", "1_Pooling/config.json", "README.md", "model.safetensors"):
        (folder / name).write_bytes(f"content of {name}".encode() * 50)
    return folder


def test_every_file_of_the_folder_is_uploaded_with_the_token_of_the_environment_and_nothing_else(hub, exported) -> None:
    (exported.parent / "secret.txt").write_text("beside the folder")
    upload = Upload("our-org/our-model", private=True, revision="v2")
    upload.check()
    assert upload(exported).startswith(f"{hub.address}/our-org/our-model/commit/")
    own = {str(path.relative_to(exported)): path.read_bytes() for path in exported.rglob("*") if path.is_file()}
    assert hub.files == own
    assert hub.repositories == {"our-org/our-model": True}
    assert hub.branches == {"v2"}
    assert hub.commit_path.endswith("/commit/v2")
    assert hub.tokens <= {"Bearer hf_ours", None}
    assert "Bearer hf_ours" in hub.tokens


def test_a_public_repository_is_not_taken_for_a_private_one(hub, exported) -> None:
    """A hub leaves the visibility of a repository that is there as it is, and says nothing."""
    hub.repositories["our-org/our-model"] = False
    with pytest.raises(ValueError, match=r"^--private: got our-org/our-model, which is there and public"):
        Upload("our-org/our-model", private=True)(exported)
    assert not hub.files


@pytest.mark.parametrize("status", [401, 403, 500])
def test_a_refusal_is_one_line_that_names_the_server_and_the_way_to_upload_later(hub, exported, status) -> None:
    hub.refuse = status
    with pytest.raises(ValueError, match=rf"^--push-to-hub: got status {status} from {hub.address}") as caught:
        Upload("our-org/our-model")(exported)
    assert "\n" not in str(caught.value)
    assert f"hf upload our-org/our-model {exported}" in str(caught.value)


def test_a_model_card_that_the_server_does_not_take_is_one_line(hub, exported) -> None:
    """The license and languages of a model's card are taken over from that of the model it started from."""
    hub.faults_of_card = ['"license" must be one of [apache-2.0, mit]', '"language[0]" must only contain lower case']
    with pytest.raises(ValueError, match=r'^--push-to-hub: got a model card .*"license" must be.*hf upload [^\n]*$'):
        Upload("our-org/our-model")(exported)
    assert hub.files == {}


def test_a_server_that_does_not_answer_is_one_line(hub, exported) -> None:
    hub.close()
    with pytest.raises(ValueError, match=r"^--push-to-hub: got no answer from ") as caught:
        Upload("our-org/our-model")(exported)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["model", "a/b/c", "our org/model", "/model", "org/", "org/..", "-x/model"])
def test_a_name_that_is_none_is_refused_before_any_work(name, monkeypatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_ours")
    with pytest.raises(ValueError, match=r"^--push-to-hub: got .*, expected ORG/NAME"):
        Upload(name).check()


def test_no_token_is_said_before_any_work(monkeypatch) -> None:
    monkeypatch.setattr("harness.export.hub.get_token", lambda: None)
    with pytest.raises(ValueError, match=r"^--push-to-hub: got no token, expected one that may write; hf auth login"):
        Upload("our-org/our-model").check()
