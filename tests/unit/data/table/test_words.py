"""Token ids word by word are the library's own, and only where that is certain."""

from __future__ import annotations

import random

import pytest
from tokenizers import AddedToken, Tokenizer, models, normalizers, pre_tokenizers, processors

from harness.data.table.tokens.words import WordEncoder, word_encoder

VOCABULARY = ["[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "b", "é", "e", "##a", "##b", "##e", "ß", "ss", "猫", "1", "##1"]
# Letters of several scripts and cases, marks that follow a letter, blanks of several kinds, signs, special tokens.
PIECES = [
    *"abeABEÉéßΣσς猫1.,!-_",
    "\u0301",
    "\u0308",
    " ",
    "  ",
    "\t",
    "\n",
    "\u00a0",
    "\u3000",
    "[MASK]",
    "[SEP]",
    "\x00",
    "İ",
]


def bert(**changes: object) -> Tokenizer:
    """A tokenizer of BERT's form with a tiny vocabulary."""
    tokenizer = Tokenizer(models.WordPiece({token: i for i, token in enumerate(VOCABULARY)}, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 1), ("[SEP]", 2)]
    )
    tokenizer.add_special_tokens(["[UNK]", "[CLS]", "[SEP]", "[MASK]"])
    for name, value in changes.items():
        setattr(tokenizer, name, value)
    return tokenizer


def certain(tokenizer: Tokenizer) -> WordEncoder:
    encoder = word_encoder(tokenizer)
    assert encoder is not None
    return encoder


NFKC = normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase(), normalizers.StripAccents()])


@pytest.mark.parametrize("normalizer", [normalizers.BertNormalizer(), NFKC, None], ids=["bert", "nfkc", "none"])
@pytest.mark.parametrize("max_length", [4, 9, 64])
def test_ids_are_those_of_the_library(normalizer: object, max_length: int) -> None:
    tokenizer = bert(normalizer=normalizer)
    tokenizer.add_tokens([AddedToken("ab", lstrip=True), AddedToken("ba", single_word=True)])
    draw = random.Random(max_length)
    texts = ["".join(draw.choices(PIECES, k=draw.randrange(0, 30))) for _ in range(300)]
    encoder = certain(tokenizer)
    encoder.encode(texts * 4, 64)  # now no word is new
    found = encoder.encode(texts, max_length)
    assert found is not None
    tokenizer.enable_truncation(max_length)
    expected = [encoding.ids for encoding in tokenizer.encode_batch(texts)]
    assert max(map(len, expected)) == max_length or max_length == 64
    starts = found.start_N.tolist()
    got = [found.ids_E[i : i + n].tolist() for i, n in zip(starts, found.length_N.tolist(), strict=True)]
    assert got == expected


def test_texts_of_new_words_are_left_to_the_library() -> None:
    """Texts without blanks, as in Chinese, are never repeated words."""
    encoder = certain(bert())
    assert encoder.encode(["猫猫猫", "猫a猫"], 8) is None
    assert encoder.encode(["a b", *["a b"] * 9], 8) is not None


def test_the_memory_of_words_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("harness.data.table.tokens.words.WORDS_KEPT", 20)
    encoder = certain(bert())
    for i in range(50):
        encoder.encode([f"a{i} b{i}"] * 4, 8)
    assert len(encoder._number) <= 22


def test_a_tokenizer_that_sees_beyond_a_blank_is_left_alone() -> None:
    several_words = bert()
    several_words.add_tokens(["a b"])
    twice = processors.TemplateProcessing(single="$A [SEP] $A", special_tokens=[("[SEP]", 2)])
    for tokenizer in (
        several_words,
        bert(pre_tokenizer=pre_tokenizers.ByteLevel()),
        bert(pre_tokenizer=pre_tokenizers.Metaspace()),
        bert(pre_tokenizer=pre_tokenizers.Digits()),
        bert(pre_tokenizer=None),
        bert(normalizer=normalizers.Replace("a b", "b")),
        bert(normalizer=normalizers.Sequence([normalizers.Lowercase(), normalizers.Strip()])),
        bert(post_processor=twice),
        bert(model=models.Unigram([("a", 0.0), ("b", 0.0)], unk_id=0)),
    ):
        assert word_encoder(tokenizer) is None
