"""Which version is the canary and which is stable; and what is taken up again."""

from __future__ import annotations

import pytest

from modelport.errors import ManifestError, RepositoryLockedError, UsageError, VersionNotFoundError
from modelport.gateway.routes import begin, change, state
from modelport.gateway.routes.judge import Limits
from modelport.repository.layout import state_folder


@pytest.fixture(autouse=True)
def three(shelve, stand):
    """Versions 1 to 3 of `net`; 1 and 2 are loaded, and 2 serves."""
    for _ in range(3):
        shelve()
    stand([1, 2], aliases={"stable": 1, "new": 2})


@pytest.fixture
def chosen(shelf):
    """`chosen(canary)`: canary, stable, and how the route names them."""

    def act(canary=None):
        one = begin.begin(shelf, "net", canary, Limits(), lambda _: None)
        return one.canary, one.stable, one.canary_target, one.stable_target

    return act


def test_without_a_route_the_newest_candidate_is_compared_with_what_serves(chosen):
    assert chosen() == (3, 2, "3", "2")


def test_with_a_route_of_two_the_smaller_share_is_the_canary(shelf, chosen):
    change.change(shelf, "net", ["stable=90", "new=10"])
    assert chosen() == (2, 1, "new", "stable")
    change.change(shelf, "net", ["stable=10", "new=90"])
    assert chosen() == (1, 2, "stable", "new")
    change.change(shelf, "net", ["1=50", "2=50"])
    assert chosen() == (2, 1, "2", "1")


def test_a_canary_that_is_named_is_compared_with_the_routes_largest_share(shelf, chosen):
    assert chosen("1") == (1, 2, "1", "2")
    change.change(shelf, "net", ["stable=90", "2=10"])
    assert chosen("3") == (3, 1, "3", "stable")
    assert chosen("new") == (2, 1, "new", "stable")


@pytest.mark.parametrize(
    ("canary", "error", "word"),
    [
        ("2", UsageError, "nothing to compare"),
        ("best", VersionNotFoundError, "'best'"),
        ("9", VersionNotFoundError, "9"),
    ],
)
def test_what_cannot_be_compared_is_one_clear_error(chosen, canary, error, word):
    with pytest.raises(error, match=word) as caught:
        chosen(canary)
    assert caught.value.why and caught.value.fix


def test_a_version_that_is_not_the_highest_is_not_loaded_by_this(shelf, stand, chosen):
    stand([3])
    one = begin.begin(shelf, "net", "1", Limits(), lambda _: None)
    with pytest.raises(UsageError, match="cannot be loaded beside version 3"):
        begin.load(shelf, one, lambda _: None)


def test_a_rollout_that_was_stopped_is_taken_up_where_the_route_still_fits(shelf):
    change.change(shelf, "net", ["stable=75", "new=25"])
    one = begin.begin(shelf, "net", None, Limits(), lambda _: None).after(step=2, looks=30, steps_begun=3)
    state.write(shelf, one)
    said = []
    again = begin.begin(shelf, "net", None, Limits(hold_s=5.0), said.append)
    assert (again.step, again.looks, again.started, again.limits.hold_s) == (2, 30, one.started, 5.0)
    assert "step 3 of 4" in said[0]
    assert begin.begin(shelf, "net", "1", Limits(), said.append).step == 0
    change.change(shelf, "net", ["stable=100"])
    change.change(shelf, "net", ["new=100"])
    assert begin.begin(shelf, "net", "1", Limits(), said.append).looks == 0


def test_what_is_kept_is_for_its_owner_alone_and_read_again(shelf):
    one = begin.begin(shelf, "net", None, Limits(max_disagreement=0.5), lambda _: None)
    state.write(shelf, one)
    state.tell(shelf, "net", {"event": "begun"})
    assert state.read(shelf, "net") == one and state.history(shelf, "net") == [{"event": "begun"}]
    folder = state_folder(shelf) / "gateway" / "routes"
    assert {path.stat().st_mode & 0o077 for path in [folder, *folder.glob("*.json*")]} == {0}
    state.remove(shelf, "net")
    assert state.read(shelf, "net") is None
    (folder / "net.json").write_text('{"limits": {"steps": []}}')
    with pytest.raises(ManifestError, match="cannot be read"):
        state.read(shelf, "net")


def test_a_canary_is_brought_in_by_one_process_at_a_time(shelf):
    import threading

    caught = []

    def second():
        try:
            with state.alone(shelf, "net"):
                caught.append(None)
        except RepositoryLockedError as exc:
            caught.append(exc)

    with state.alone(shelf, "net"):
        thread = threading.Thread(target=second)
        thread.start()
        thread.join()
    assert "is being brought in" in caught[0].what


def test_a_history_does_not_grow_for_ever_and_loses_what_is_oldest(shelf, monkeypatch):
    monkeypatch.setattr(state, "HISTORY_BYTES", 20_000)
    for number in range(70):
        state.tell(shelf, "net", {"event": "step", "number": number, "why": "x" * 400})
    path = state_folder(shelf) / "gateway/routes/net.jsonl"
    found = [one["number"] for one in state.history(shelf, "net")]
    assert path.stat().st_size <= state.HISTORY_BYTES and path.stat().st_mode & 0o777 == 0o600
    assert found == list(range(found[0], 70)) and 20 < len(found) < 60
