"""Loads the tokenizer of a model folder, and refuses one that is not there, is cut short or cannot encode."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from harness.model_folder.find import in_one_line
from harness.settings.in_short import in_short

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_FETCH = "fetch the tokenizer's files that belong to these weights"
_CONFIGURATION = ("tokenizer_config_file",)  # names of files that hold no vocabulary
# Kinds of files of which a class that names both reads one: BertJapaneseTokenizer, by `subword_tokenizer_type`.
_ONE_OF_TWO = {"vocab_file", "spm_file"}
# What no vocabulary of this size holds as a whole: a word, an ideograph, a sign of a script that died out.
_PROBE = "Where is it kept? 猫 \U00012000"
# How vocabularies mark the beginning or the inside of a word. No text holds such an entry literally.
_MARKS = ("Ġ", "▁", "##")


def load_tokenizer(folder: str, trust_remote_code: bool = False) -> PreTrainedTokenizerBase:
    """The tokenizer in a folder, with a padding token: any other special token if it has none, as padding is masked.

    Raises:
        OSError: the folder does not exist and is no name on a hub that can be reached.
        ValueError: no vocabulary, damaged files, or a class that transformers does not know; one line.
    """
    # Imported here: the import takes seconds and reads variables that settings/environment.py must set before.
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=trust_remote_code, use_fast=True)
    except OSError:
        if Path(folder).is_dir():
            raise ValueError(_no_vocabulary(Path(folder))) from None
        raise
    except Exception as error:
        raise ValueError(
            f"{folder}: got a tokenizer that cannot be loaded ({in_one_line(error)}), expected one that transformers "
            f"loads; {_FETCH}, or set trust_remote_code if it is code of the folder's own"
        ) from error
    if Path(folder).is_dir():
        _check_vocabulary(tokenizer, Path(folder))
    _check_encoding(tokenizer, folder)
    if tokenizer.pad_token is None:
        tokenizer.pad_token = _any_token(tokenizer)
    return tokenizer


def check_against_table(tokenizer: PreTrainedTokenizerBase, num_rows: object, name: str) -> None:
    """Check that the embedding table has a row for every token.

    num_rows: of the table, from config.json; anything but a number says nothing.

    Raises:
        ValueError: a token has no row; the line names it.
    """
    if not isinstance(num_rows, int) or isinstance(num_rows, bool):
        return
    beyond = sorted((number, token) for token, number in tokenizer.get_vocab().items() if number >= num_rows)
    if beyond:
        number, token = beyond[0]
        more = f" and {len(beyond) - 1} more" if len(beyond) > 1 else ""
        raise ValueError(
            f"{name}: got a tokenizer with the token {in_short(token, quoted=True)} (id {number}){more}, but weights "
            f"for the ids 0 to {num_rows - 1} only, expected a row for every token; take the tokenizer of these "
            "weights, or add the rows and save both: model.resize_token_embeddings(len(tokenizer))"
        )


def _check_vocabulary(tokenizer: PreTrainedTokenizerBase, folder: Path) -> None:
    """Check that the files of the tokenizer's class are there: without them transformers makes an empty vocabulary."""
    names = {kind: file for kind, file in type(tokenizer).vocab_files_names.items() if kind not in _CONFIGURATION}
    whole = names.pop("tokenizer_file", "tokenizer.json")
    missing = [file for file in names.values() if not (folder / file).is_file()]
    if set(missing) != set(names.values()) and names.keys() >= _ONE_OF_TWO:
        missing = [file for file in missing if file not in {names[kind] for kind in _ONE_OF_TWO}]
    if not (folder / whole).is_file() and missing and not _other_vocabulary(folder):
        raise ValueError(_no_vocabulary(folder, missing))
    special = set(tokenizer.all_special_tokens) | set(tokenizer.get_added_vocab())
    if not set(tokenizer.get_vocab()) - special:
        raise ValueError(f"{folder}: got a tokenizer without any words, expected a vocabulary; {_FETCH}")


def _other_vocabulary(folder: Path) -> bool:
    """Whether a vocabulary of another format lies there, which transformers has turned into its own."""
    formats = ("*.model", "*.tiktoken", "tekken.json", "*.spm")
    return any(next(folder.glob(pattern), None) for pattern in formats)


def _no_vocabulary(folder: Path, missing: list[str] | None = None) -> str:
    files = f"tokenizer.json, or {' and '.join(missing)}" if missing else "tokenizer.json or the vocabulary's own files"
    return f"{folder}: got no tokenizer beside the weights, expected {files}; {_FETCH}"


def _check_encoding(tokenizer: PreTrainedTokenizerBase, name: str) -> None:
    """Check that a text of any script can be encoded."""
    try:
        encoded = tokenizer(_PROBE, add_special_tokens=False)["input_ids"]
        ideograph = tokenizer("猫", add_special_tokens=False)["input_ids"]
    except Exception as error:
        raise ValueError(
            f"{name}: got a tokenizer that cannot encode a text with signs outside its vocabulary "
            f"({in_one_line(error)}), expected an unknown token (unk_token) in it; {_FETCH}"
        ) from error
    if not encoded:
        raise ValueError(f"{name}: got a tokenizer that makes no token of a text; {_FETCH}")
    if not ideograph:
        warnings.warn(
            f"{name}: the tokenizer has no unknown token: signs that its vocabulary lacks are left out of a text",
            stacklevel=2,
        )


def _any_token(tokenizer: PreTrainedTokenizerBase) -> str:
    """A token for padding: a special one, else an entry that no text holds literally.

    A padding token is cut out of texts before they are tokenised, so it must not be an ordinary word.
    """

    def candidates() -> Iterator[str | None]:
        yield from (tokenizer.eos_token, tokenizer.unk_token, tokenizer.bos_token, tokenizer.sep_token)
        yield from tokenizer.all_special_tokens
        yield from sorted((t for t in tokenizer.get_vocab() if t.startswith(_MARKS)), key=len, reverse=True)
        yield str(tokenizer.convert_ids_to_tokens(0))

    return next(token for token in candidates() if token)
