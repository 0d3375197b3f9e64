"""Tells in which other encoding a text may be that is not UTF-8, so that a message can say what to do."""

from __future__ import annotations

_COMMON = 0.9  # from this share of the characters beyond ASCII on, a text of common Chinese characters is taken as one


def instead_of_utf8(data: bytes) -> str:
    """What a message says behind "expected UTF-8": the encoding that the bytes are likely in, and how to convert them.

    Empty if they look like none of those that Windows programs write for Chinese texts (GBK and GB18030, UTF-16).
    """
    name = _likely_encoding(data)
    return f"; it looks like {name}: iconv -f {name} -t UTF-8 OLD > NEW converts a file" if name else ""


def _likely_encoding(data: bytes) -> str | None:
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):  # the mark that Windows puts before UTF-16
        return "UTF-16"
    try:
        text = data.decode("gb18030")  # holds all of GBK and GB2312
    except UnicodeDecodeError:
        return None
    foreign = [character for character in text if not character.isascii()]
    # Bytes of other encodings, too, are characters of GB18030, but rarely common ones, which GB2312 holds.
    common = sum(bool(character.encode("gb2312", "ignore")) for character in foreign)
    return "GB18030" if foreign and common >= _COMMON * len(foreign) else None
