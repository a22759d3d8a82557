"""Promoting and going back in a running server: what callers get, what is refused, and what is left behind."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest

import modelport
from modelport.cli import main
from modelport.errors import InvalidNameError, ManifestError, ServerError, VerificationError, VersionNotFoundError
from modelport.lifecycle import trial
from modelport.repository import config as configs
from modelport.repository import drops, events, switch
from modelport.server import EmbeddedServer, stubs


def loads(server, model):
    """How often a model was loaded, all its versions together, as the server's log tells."""
    return server.log.read_text().count(f"successfully loaded '{model}'")


def test_a_promotion_under_load_loses_no_request_and_mixes_no_versions(
    shelf, server, net, ask, callers, moments, untouched
):
    """B1 and A10: every answer is version 1's or 2's, only 2's after the switch, and version 1 is not loaded anew."""
    shelf.publish(net)
    assert ask(server, net) == 1, "a published version takes no traffic"
    before, seen = loads(server, net), moments()
    with callers(server, net) as load:
        done = modelport.promote(net, repository=shelf.root, report=seen)
        returned = time.monotonic()
        load.wait(100)
    assert load.violations([1, 2], switches=[seen.switch(2)]) == []
    assert {one.value for one in load.answers if one.pinned is None and one.sent > returned} == {2}
    assert (done.version, done.before, done.loaded, done.server) == (2, 1, (1, 2), server.http_url)
    assert shelf.named(net) == (1, 2)
    assert loads(server, net) == before + 1, "version 1 was loaded anew"
    untouched(server, net, (1, 2))


def test_going_back_under_load(shelf, server, net, callers, moments):
    """A5: from the moment the switch is made, nobody gets version 2's answer any more.

    What did not load once, and was taken out for it, is proved to serve: no more is said of that.
    """
    shelf.publish(net)
    modelport.promote(net, repository=shelf.root)
    drops.refuse(shelf.root, net, 1, "it did not load")
    seen, started = moments(), time.monotonic()
    with callers(server, net) as load:
        done = modelport.rollback(net, repository=shelf.root, report=seen)
        assert time.monotonic() - started < 10
        load.wait(100)
    assert load.violations([1, 2], switches=[seen.switch(1)]) == []
    assert (done.version, done.before, done.loaded) == (1, 2, (1,))
    assert server.ready_versions(net) == shelf.named(net) == (1,)
    assert drops.refusal(shelf.root, net, 1) is None


def test_a_version_whose_answers_are_wrong_never_answers_a_caller(shelf, server, net, callers, untouched):
    """B1: what the server answers with it is not what its source answered. The next good one is promoted."""
    shelf.publish(net, value=99, golden=2)
    before = loads(server, net)
    with callers(server, net) as load:
        with pytest.raises(VerificationError, match="on trial") as caught:
            modelport.promote(net, repository=shelf.root)
        load.wait(50)
    assert load.violations([1]) == []
    assert caught.value.why.endswith("version 1 serves on")
    untouched(server, net, (1,))
    assert loads(server, net) == before
    shelf.publish(net)
    assert modelport.promote(net, repository=shelf.root).version == 3


def test_a_version_that_cannot_load_is_refused_with_tritons_reason(
    shelf, server, net, ask, callers, command, untouched
):
    """A6: the command fails, the old version serves on without one failed request, and the next good one works."""
    shelf.publish(net, operator="NoSuchOperator")
    with callers(server, net) as load:
        failed = command("promote", net)
        load.wait(50)
    assert failed.returncode == ServerError.exit_code, failed.stderr
    assert "NoSuchOperator" in failed.stderr and "version 1 serves on" in " ".join(failed.stderr.split())
    assert load.violations([1]) == []
    untouched(server, net, (1,))
    shelf.publish(net)
    done = command("promote", net, "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["version"] == 3 and ask(server, net) == 3


def test_an_export_goes_on_to_promote(shelf, server, net, ask, capsys, tmp_path, make_onnx):
    """And what was published is told though it cannot be promoted."""
    make_onnx(2, tmp_path / "net.onnx")
    words = ["export", str(tmp_path / "net.onnx"), "--name", net, "--promote", "--repository", str(shelf.root)]
    trap = shelf.root / net / ("9" * 20)
    trap.mkdir()
    assert main(words) == InvalidNameError.exit_code
    out, err = capsys.readouterr()
    assert f"published {net} version 2 (candidate" in out and "  why: " in err
    assert shelf.named(net) == (1,) and ask(server, net) == 1
    trap.rmdir()
    assert main([*words, "--json"]) == 0
    done = json.loads(capsys.readouterr().out)
    assert (done["exported"]["version"], done["exported"]["serving"], done["promoted"]["before"]) == (3, False, 1)
    assert shelf.named(net) == (1, 3) and ask(server, net) == 2, "the third one answers with what the file says"


def test_a_changed_file_is_found_before_the_server_is_asked(shelf, server, net, untouched):
    published = shelf.publish(net)
    (published.folder / "model.onnx").write_bytes(b"something else")
    with pytest.raises(ManifestError, match=r"model\.onnx was changed"):
        modelport.promote(net, 2, repository=shelf.root)
    untouched(server, net, (1,))


def test_a_policy_that_names_a_missing_version_is_refused_before_triton_is_asked(shelf, server, net, ask):
    """A7: by a load. A server that starts takes it out, and says so: the model's other versions serve."""
    rewrite(shelf, net, [1, 7])
    asked = server.log.read_text().count(f"'{net}'")
    with pytest.raises(VersionNotFoundError, match=f"version 7 of model '{net}' does not exist"):
        server.load(net)
    assert server.log.read_text().count(f"'{net}'") == asked
    assert ask(server, net) == 1
    with EmbeddedServer(shelf.root, models=[net], http_port=0, grpc_port=0, metrics_port=0) as second:
        assert second.failed == {} and ask(second, net) == 1
        assert f"failed to load '{net}'" not in second.log.read_text()
    assert shelf.named(net) == (1,)
    [told] = [event for event in events.latest(shelf.root, 5) if event.kind == "taken_out"]
    assert (told.model, told.version, told.level) == (net, 7, "error") and "it has no folder" in told.text


def rewrite(shelf, model, versions):
    """What a user does with an editor, and modelport's record with it."""
    config, known = switch.read(shelf.root, model)
    configs.set_versions(config, versions)
    switch.write(shelf.root, model, config, known)


def test_a_missing_version_in_the_policy_does_not_block_a_promotion(shelf, server, net, ask, untouched):
    shelf.publish(net)
    rewrite(shelf, net, [1, 7])
    said = []
    modelport.promote(net, 2, repository=shelf.root, report=said.append)
    assert any("names version 7, which is not there" in line for line in said)
    untouched(server, net, (1, 2))


def test_a_version_on_trial_stands_back_behind_those_that_answer_callers(shelf, server, net):
    """It has a process of its own, all threads of which do; the version that serves afterwards does not."""
    shelf.publish(net)
    seen = []

    def look(text):
        if text.startswith("replaying"):
            [stub] = stubs.find(server.handle, f"{net}.trial")
            tasks = Path(f"/proc/{stub.pid}/task").iterdir()
            seen.extend(os.getpriority(os.PRIO_PROCESS, int(task.name)) for task in tasks)

    usual = os.getpriority(os.PRIO_PROCESS, 0)
    modelport.promote(net, repository=shelf.root, unload_old=True, report=look)
    assert len(seen) > 3 and set(seen) == {trial.NICE}
    assert {stub.process.nice() for stub in stubs.find(server.handle, net)} <= {usual}
    assert os.getpriority(os.PRIO_PROCESS, server.pid) == usual
    seen.clear()
    modelport.rollback(net, repository=shelf.root, report=look)
    assert len(seen) > 3 and set(seen) == {usual}, "who goes back is in a hurry"


# The detectors fire


def test_a_switch_by_hand_to_a_wrong_version_is_seen_by_the_callers(shelf, server, net, callers):
    shelf.publish(net, value=99, golden=2)
    with callers(server, net) as load:
        rewrite(shelf, net, [1, 2])
        server.load(net)
        load.wait(50)
    assert any("answered by 99" in line for line in load.violations([1, 2]))


def test_a_version_that_goes_without_a_successor_is_seen_by_the_callers(shelf, server, net, callers):
    with callers(server, net) as load:
        server.unload(net)
        load.wait(50)
    assert any(line.startswith("http unversioned: ") for line in load.violations([1]))
    assert any(line.startswith("grpc for version 1: ") for line in load.violations([1]))


def test_a_late_answer_of_the_old_version_is_seen(shelf, server, net, callers, moments):
    seen = moments()
    with callers(server, net) as load:
        seen("switching to version 2")
        seen("asking for version 2 by its number and without")
        load.wait(50)
    assert any(
        "answered by 1.0 after 2 was proved" in line for line in load.violations([1, 2], switches=[seen.switch(2)])
    )
