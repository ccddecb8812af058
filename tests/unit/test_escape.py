"""Nothing that a task says can move a terminal."""

from __future__ import annotations

import json
import unicodedata

from hypothesis import given
from hypothesis import strategies as st

from atm.escape import is_unsafe, visible, visible_json, visible_lines

any_text = st.text(st.characters() | st.sampled_from("\x1b\x9b\u202e\u2066\r\n\t\x00\x7f\ud800\U000e0041"))


@given(any_text)
def test_visible_text_holds_no_character_that_acts(text: str) -> None:
    shown = visible(text)
    assert not any(is_unsafe(char) for char in shown)
    assert not any(unicodedata.category(char) in ("Cc", "Cs") for char in shown)
    assert len(shown.splitlines()) <= 1


@given(any_text)
def test_lines_stay_lines_and_nothing_else_acts(text: str) -> None:
    lines = visible_lines(text)
    assert len(lines) == text.count("\n") + 1
    assert not any(is_unsafe(char) for line in lines for char in line)


@given(st.text(st.characters(categories=["L", "N", "P", "S"])))
def test_harmless_text_is_left_as_it_is(text: str) -> None:
    assert visible(text) == text


@given(st.recursive(any_text, lambda inner: st.lists(inner) | st.dictionaries(any_text, inner), max_leaves=6))
def test_json_means_the_same_after_it_was_made_safe(value: object) -> None:
    safe = visible_json(json.dumps(value, ensure_ascii=False, indent=2))
    assert not any(is_unsafe(char) for char in safe if char != "\n")
    # A pair of lone surrogates may be read back as the character it spells.
    assert json.dumps(json.loads(safe)) == json.dumps(value)


def test_escapes_are_written_so_that_they_can_be_recognised() -> None:
    assert visible("a\x1b[1m\n\u202e\U000e0041") == "a\\x1b[1m\\n\\u202e\\U000e0041"
