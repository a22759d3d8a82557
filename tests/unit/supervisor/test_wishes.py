"""What is copied into a served repository is not wanted before it was checked."""

from __future__ import annotations

from modelport.repository import placed
from modelport.supervisor.wishes import Wishes

CONFIG = 'name: "new" version_policy { specific { versions: 1 } }'


def test_what_is_copied_in_is_not_wanted_before_it_was_checked_whatever_a_configuration_says(tmp_path):
    """A whole model that comes with its configuration, and a new version where the newest is to be loaded."""
    repository = tmp_path / "repository"
    (repository / "latest" / "1").mkdir(parents=True)
    (repository / "latest" / "config.pbtxt").write_text('name: "latest"')
    watched, trusting = Wishes(repository, watched=True), Wishes(repository)
    assert watched.read()["latest"].versions == (1,), "it was there at the start"
    (repository / "new" / "1").mkdir(parents=True)
    (repository / "new" / "config.pbtxt").write_text(CONFIG)
    (repository / "latest" / "2").mkdir()
    found = watched.read()
    assert (found["new"].versions, found["latest"].versions) == ((), (1,))
    assert trusting.read()["new"].versions == (1,), "with --no-watch nobody checks it"
    (repository / "new" / "1" / "manifest.json").write_text("{}")
    placed.note(repository, "new", 1, repository / "new" / "1")
    assert watched.read()["new"].versions == (1,)
    (repository / "latest" / "1").rename(repository / "elsewhere")
    assert watched.read()["latest"].versions == ()
    (repository / "elsewhere").rename(repository / "latest" / "1")
    assert watched.read()["latest"].versions == (), "what comes again was copied in"
