"""The secret of a server that somebody else starts."""

from __future__ import annotations

import pytest

from modelport.commands.serve import control_secret
from modelport.errors import UsageError


def test_it_comes_from_a_file_without_the_blanks_around_it(tmp_path, monkeypatch):
    monkeypatch.setenv("MODELPORT_TRITON_SECRET", "another")
    (tmp_path / "secret").write_text(" long-random_word\n")
    assert control_secret(tmp_path / "secret") == "long-random_word"


def test_without_a_file_it_comes_from_the_variable(monkeypatch):
    monkeypatch.setenv("MODELPORT_TRITON_SECRET", "word")
    assert control_secret(None) == "word"


@pytest.mark.parametrize("text", ["", "\n", "two words", "w\u00f6rd", "a\nb"])
def test_what_cannot_be_sent_is_refused_and_not_shown(tmp_path, text):
    (tmp_path / "secret").write_text(text)
    with pytest.raises(UsageError, match="holds no secret") as caught:
        control_secret(tmp_path / "secret")
    assert not text.strip() or text not in str(caught.value)


def test_a_file_that_cannot_be_read_is_named(tmp_path):
    with pytest.raises(UsageError, match="nowhere"):
        control_secret(tmp_path / "nowhere")
