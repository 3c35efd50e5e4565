"""What may be shown: no control characters, no secrets."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airquality.ground.shown import printable, shown


@given(st.text())
def test_printable_any_text_is_printable_and_tells_texts_apart(text: str) -> None:
    assert printable(text).isprintable()
    assert printable(printable(text)) == printable(text)
    if text.isprintable():
        assert printable(text) == text


@pytest.mark.parametrize(
    "character", ["\x00", "\x1b", "\r", "\n", "\x7f", "\x9b", "\u202e", "\u2028", "\u200b", "\ud800", "\U000e0001"]
)
def test_printable_what_acts_on_a_terminal_is_escaped(character: str) -> None:
    escaped = printable(f"roof{character}é")
    assert character not in escaped
    assert escaped.startswith("roof\\")
    assert escaped.endswith("é")


@pytest.mark.parametrize(
    "text",
    [
        "http://ann:secret@mlflow:5000/api failed",
        "postgresql://db/x?user=ann&password=secret",
        "http://mlflow/api?access_token=secret&x=1",
        "jdbc:x://db;pwd=secret;x=1",
    ],
)
def test_shown_secrets_are_left_out(text: str) -> None:
    assert "secret" not in shown(text)
    assert shown(text)[:4] == text[:4]
