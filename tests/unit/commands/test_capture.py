"""`modelport capture`: rules are set, told, and taken away; what is kept is shown, and says what it is not."""

from __future__ import annotations

import json
import time

import numpy as np
import pytest

from modelport.cli import main
from modelport.commands import capture as captures
from modelport.errors import EnvironmentUnfitError, ModelNotFoundError, UsageError
from modelport.gateway.capture import keeper, secret, stored
from modelport.gateway.capture.exchange import Exchange
from modelport.gateway.capture.keeper import Keeper
from modelport.repository import events


@pytest.fixture(autouse=True)
def one(shelve, monkeypatch):
    monkeypatch.delenv(secret.VARIABLE, raising=False)
    shelve()


@pytest.fixture
def run(capsys, shelf):
    """`run("net", "--json")`: exit code, output, errors of `modelport capture`."""

    def act(*argv: str):
        code = main(["capture", *argv, "--repository", str(shelf)])
        said = capsys.readouterr()
        return code, said.out, said.err

    return act


@pytest.fixture
def kept(shelf):
    """Three requests that were captured now."""
    captures.capture("net", part=0.5, repository=shelf)
    writer, x = Keeper(shelf, secret.read(shelf)), np.ones((1, 3), np.float32)
    for second in range(3):
        marks = {"input x": "redacted"} if second == 2 else {}
        exchange = Exchange(
            model="net", version=1, at=time.time() + second, protocol="http", status=200,
            inputs={"x": x * second}, outputs={"y": x[:, :2]}, marks=marks,
        )  # fmt: skip
        writer.keep(exchange, stored.rules(shelf)["net"])
    writer.close()


def test_a_rule_is_set_and_says_what_is_kept(run, shelf):
    code, out, _ = run("net", "--sample", "1%", "--redact", "x", "--redact", r"re:\d{4}", "--keep", "2d")
    assert code == 0
    for words in ("1% of the requests", "kept as they are  y", r"matches re:\d{4}", "id, parameters, tenant", "2 days"):
        assert words in out
    rule = stored.rules(shelf)["net"]
    assert (rule.part, rule.redact, rule.keep_s) == (0.01, ("x", r"re:\d{4}"), 2 * 86400)
    assert [event.kind for event in events.latest(shelf, 9)].count("capture_on") == 1
    assert secret.path(shelf).stat().st_mode & 0o777 == 0o600


def test_what_is_left_out_stays_as_it_is(run, shelf):
    run("net", "--sample", "1%", "--redact", "x,y", "--also", "id", "--most", "2MiB")
    run("net", "--sample", "100%")
    rule = stored.rules(shelf)["net"]
    assert (rule.part, rule.redact, rule.also, rule.most_bytes) == (1.0, ("x", "y"), ("id",), 2 << 20)
    run("net", "--redact", "none")
    assert stored.rules(shelf)["net"].redact == ()


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (("net", "--redact", "x"), "not captured"),
        (("net", "--sample", "1%", "--redact", "X"), "no tensor 'X'"),
        (("net", "--sample", "1%", "--redact", "re:("), "no regular expression"),
        (("net", "--sample", "0.01"), "no part above 0%"),
        (("net", "--sample", "101%"), "no part above 0%"),
        (("net", "--sample", "1%", "--keep", "1s"), "1 minute"),
        (("net", "--sample", "1%", "--off"), "different things"),
        (("net", "--delete"), "--delete goes with --off"),
        (("net",), "nothing says what is wanted"),
        (("--off",), "none is named"),
    ],
)
def test_what_cannot_be_is_one_clear_error_and_nothing_is_set(run, shelf, argv, said):
    code, _, err = run(*argv)
    assert code == 2 and said in err and stored.rules(shelf) == {}


def test_a_model_that_is_missing_and_a_key_that_is_open_are_told(shelf):
    with pytest.raises(ModelNotFoundError):
        captures.capture("nope", part=1.0, repository=shelf)
    captures.capture("net", part=1.0, repository=shelf)
    secret.path(shelf).chmod(0o644)
    with pytest.raises(EnvironmentUnfitError):
        captures.capture("net", part=0.5, repository=shelf)
    assert stored.rules(shelf)["net"].part == 1.0


@pytest.mark.usefixtures("kept")
def test_the_list_says_what_is_captured_and_kept(run):
    code, out, _ = run()
    assert code == 0 and "net" in out and "0.5" in out and "nothing" in out
    (row,) = json.loads(run("--json")[1])["models"]
    assert row["model"] == "net" and row["rule"]["part"] == 0.5 and row["kept"]["files"] == 1


@pytest.mark.usefixtures("kept")
def test_the_latest_are_shown_with_their_marks(run):
    code, out, _ = run("net", "--show", "2")
    assert code == 0 and out.count("version 1, http 200") == 2 and "redacted" in out
    shown = json.loads(run("net", "--show", "9", "--json")[1])
    assert [one["inputs"]["x"] for one in shown["exchanges"]] == [[[n] * 3] for n in (0.0, 1.0, 2.0)]


@pytest.mark.usefixtures("kept")
def test_a_damaged_record_is_named_and_the_others_are_shown(run, shelf):
    (path,) = keeper.folder(shelf, "net").iterdir()
    content = bytearray(path.read_bytes())
    content[-200] ^= 1
    path.write_bytes(content)
    code, out, err = run("net", "--show", "9")
    assert code == 35 and out.count("http 200") == 2 and f"record 3 of {path.name}" in err


@pytest.mark.usefixtures("kept")
def test_off_keeps_what_is_there_and_delete_does_not(run, shelf):
    assert "stay until" in run("net", "--off")[1] and stored.rules(shelf) == {} and keeper.models(shelf) == ["net"]
    assert "off" in run()[1]
    assert "are deleted" in run("net", "--off", "--delete")[1] and keeper.models(shelf) == []
    assert run("net", "--show", "1")[0] == 2


@pytest.mark.usefixtures("kept")
def test_every_command_deletes_what_has_come_to_its_age(run, shelf):
    (path,) = keeper.folder(shelf, "net").iterdir()
    old = path.rename(path.with_name(f"1500000000{path.name[10:]}"))
    assert run()[0] == 0 and not old.exists()


def test_nothing_kept_is_one_clear_error(shelf):
    with pytest.raises(UsageError, match="nothing that was captured"):
        captures.show("net", 1, repository=shelf)
