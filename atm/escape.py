"""Makes text that somebody else wrote fit for a terminal and for a log."""

from __future__ import annotations

import re
import unicodedata

#: Joiners of scripts and of emoji; they move nothing.
_HARMLESS = frozenset("\u200c\u200d")
#: Controls (C0, DEL, C1), formats (bidi overrides, tags), lone surrogates, line separators.
_UNSAFE_CATEGORIES = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})


def is_unsafe(char: str) -> bool:
    """Whether a terminal could act on the character instead of showing it."""
    return unicodedata.category(char) in _UNSAFE_CATEGORIES and char not in _HARMLESS


def visible(text: str) -> str:
    """`text` on one line, with every unsafe character written as an escape (ESC as \\x1b).

    For eyes: the text cannot be read back, a backslash is left as it is.
    """
    if text.isprintable():
        return text
    return "".join(char.encode("unicode_escape").decode() if is_unsafe(char) else char for char in text)


def visible_lines(text: str) -> list[str]:
    """The lines of `text`, each made visible, with tabs widened."""
    return [visible(line.expandtabs(4)) for line in re.split(r"\r?\n", text)]


def visible_json(text: str) -> str:
    """JSON text that means the same, with unsafe characters inside its strings as \\uXXXX.

    JSON escapes only what is below U+0020; line breaks outside strings stay.
    """
    if text.isprintable():
        return text
    return "".join(_json_escape(char) if char != "\n" and is_unsafe(char) else char for char in text)


def _json_escape(char: str) -> str:
    number = ord(char)
    if number < 0x10000:
        return f"\\u{number:04x}"
    number -= 0x10000
    return f"\\u{0xD800 + (number >> 10):04x}\\u{0xDC00 + (number & 0x3FF):04x}"
