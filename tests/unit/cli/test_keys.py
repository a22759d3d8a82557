"""`modelport keys`: the token alone on standard output, the rest on standard error; wrong options together."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from modelport.cli import main

PROGRAM = Path(sys.executable).parent / "modelport"


@pytest.fixture
def run(capfd, tmp_path, monkeypatch):
    """`run("keys", "list")`: exit code, standard output, standard error, in a folder with a repository."""
    (tmp_path / "model_repository" / "net").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)

    def act(*argv):
        code = main([*argv])
        return code, *capfd.readouterr()

    return act


def test_a_shell_takes_the_token_into_a_variable(run):
    """As callers' documents say: TOKEN=$(modelport keys create ...). In a narrow terminal, too, it is one line."""
    command = f'TOKEN=$({PROGRAM} keys create --tenant acme --models net,later) && printf "<%s>" "$TOKEN"'
    done = subprocess.run(
        ["bash", "-c", command],
        capture_output=True,
        text=True,
        timeout=60,
        env={"COLUMNS": "40", "PATH": "/usr/bin:/bin"},
    )
    assert done.returncode == 0, done.stderr
    token = done.stdout.strip("<>")
    assert token.count(".") == 2 and not set(token) & set(" \n"), token
    assert "acme" in done.stderr and token not in done.stderr
    assert "no model 'later' yet" in done.stderr


def test_json_holds_the_token_once_and_nothing_else_is_on_standard_output(run):
    code, out, err = run("keys", "create", "--tenant", "acme", "--models", "*", "--rate", "60/min", "--json")
    made = json.loads(out)
    assert code == 0 and err == "" and made["token"].count(".") == 2
    assert made["limits"]["rate_per_s"] == 1.0 and made["key"]["tenant"] == "acme"
    code, out, _ = run("keys", "list", "--json")
    assert code == 0 and json.loads(out) == [made["key"]]
    assert made["token"] not in run("keys", "list")[1]


def test_a_token_in_a_file_is_not_printed(run, tmp_path):
    code, out, err = run("keys", "create", "--tenant", "acme", "--models", "net", "--token-file", "key.txt")
    token = (tmp_path / "key.txt").read_text().strip()
    assert code == 0 and out == "" and "key.txt" in err and token not in err


def test_all_wrong_options_are_told_together(run):
    words = ("--tenant", "a b", "--models", "net", "--rate", "5", "--daily", "many", "--body", "x", "--expires", "soon")
    code, out, err = run("keys", "create", *words)
    assert code == 2 and out == ""
    assert all(option in err for option in ("--tenant", "--rate", "--daily", "--body", "--expires"))


def test_limits_are_shown_and_changed_in_words(run):
    run("keys", "create", "--tenant", "acme", "--models", "net", "--rate", "1000/min", "--daily", "100000")
    assert run("keys", "limits")[1].strip() == "acme: 1000/min, 100000 a day"
    code, out, _ = run("keys", "limits", "acme", "--rate", "none", "--burst", "7", "--body", "1MiB", "--daily", "none")
    assert code == 0 and out.strip() == "acme: 7 at once after a pause, requests of 1048576 bytes"


def test_revoking_and_rotating_say_what_they_did(run):
    made = json.loads(run("keys", "create", "--tenant", "acme", "--models", "net", "--json")[1])["key"]
    code, out, _ = run("keys", "rotate")
    assert code == 0 and f"accepted until {made['expires_at'][:10]}" in out
    code, out, err = run("keys", "rotate", "--overlap", "1h")
    assert code == 2 and made["id"] in err and "--force" in err
    code, out, _ = run("keys", "revoke", made["id"], "--tenant", "acme")
    assert code == 0 and f"revoked key {made['id']} of tenant acme" in out
    assert "nothing to revoke" in run("keys", "revoke", made["id"])[1]
    code, _, err = run("keys", "revoke")
    assert code == 2 and "no key is named" in err
