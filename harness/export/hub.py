"""Uploads an exported folder to a repository of a model hub, through huggingface_hub.

Server and token are those of its environment: HF_ENDPOINT, HF_TOKEN, or what `hf auth login` has stored.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from huggingface_hub import HfApi, constants, get_token
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, HTTPError, OfflineModeIsEnabled
from huggingface_hub.utils import validate_repo_id

from harness.model_folder.find import words_of

OPTION = "--push-to-hub"


@dataclass(frozen=True, slots=True)
class Upload:
    """An upload to the repository ORG/NAME, which is made if it is not there.

    private: a new repository is private; one that is there and public is refused. revision: the branch, made if it is
    not there; None: the main one.
    """

    name: str
    private: bool = False
    revision: str | None = None

    def check(self) -> None:
        """Check, before any work, the name and that there is a token. Asks no server.

        Raises:
            ValueError: the name is none, or there is no token.
        """
        owner, _, model = self.name.partition("/")
        try:
            validate_repo_id(self.name)
            is_name = bool(owner and model)
        except HFValidationError:
            is_name = False
        if not is_name:
            raise ValueError(
                f"{OPTION}: got {self.name}, expected ORG/NAME of letters, digits, '-', '_' and '.', at most 96 of them"
            )
        if constants.HF_HUB_OFFLINE:
            raise ValueError(f"{OPTION}: got HF_HUB_OFFLINE=1, expected a hub that may be asked; unset it")
        if not get_token():
            raise ValueError(f"{OPTION}: got no token, expected one that may write; hf auth login, or set HF_TOKEN")

    def __call__(self, folder: Path) -> str:
        """Upload every file of the folder in one commit. Returns the address of the commit.

        Raises:
            ValueError: the server refuses it or does not answer.
        """
        api = HfApi()
        with self._in_one_line(api.endpoint, folder):
            api.create_repo(self.name, private=self.private or None, exist_ok=True)
            if self.private and not api.model_info(self.name).private:
                raise ValueError(
                    f"--private: got {self.name}, which is there and public, expected a new or a private repository; "
                    f"name another one, or leave --private out. {_later(self.name, folder)}"
                )
            if self.revision is not None:
                api.create_branch(self.name, branch=self.revision, exist_ok=True)
            try:
                commit = api.upload_folder(
                    repo_id=self.name,
                    folder_path=folder,
                    revision=self.revision,
                    commit_message="Upload a model exported by harness",
                )
            except ValueError as error:  # what the server says of the model card's metadata, in several lines
                raise ValueError(
                    f"{OPTION}: got a model card that {api.endpoint} does not take ({words_of(error)[:300]}), expected "
                    f"metadata that it knows; correct it at the top of README.md. {_later(self.name, folder)}"
                ) from error
        return str(commit.commit_url)

    @contextmanager
    def _in_one_line(self, endpoint: str, folder: Path) -> Iterator[None]:
        try:
            yield
        except (HfHubHTTPError, HTTPError, OfflineModeIsEnabled, OSError) as error:
            answer = getattr(error, "response", None)
            status = "no answer" if answer is None else f"status {answer.status_code}"
            reason = getattr(error, "server_message", None) or words_of(error)
            raise ValueError(
                f"{OPTION}: got {status} from {endpoint} for {self.name} ({reason[:200]}), expected a repository that "
                f"the token may write to. {_later(self.name, folder)}"
            ) from error


def _later(name: str, folder: Path) -> str:
    return f"{folder} is written and whole; to upload it later: hf upload {name} {folder}"
