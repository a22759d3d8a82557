"""A model's configuration and record change together, in one rename, and its owner's words stay."""

from __future__ import annotations

import dataclasses

import pytest

from modelport.errors import ManifestError, RepositoryError
from modelport.repository import config as configs
from modelport.repository import switch
from modelport.repository.record import MARK, Record

OWNED = """# Ours: two copies, since one is too slow.
name: "net"
backend: "onnxruntime"   # by the exporter
max_batch_size: 32
# All there is.
instance_group [ { count: 2 } ]
"""


@pytest.fixture
def path(release, repository):
    release()
    return repository / "net" / "config.pbtxt"


def test_what_was_written_is_read(path, repository):
    config, known = switch.read(repository, "net")
    assert known == Record() and configs.versions_of(config) == (1,)
    configs.set_versions(config, [1, 2])
    switch.write(repository, "net", config, Record(aliases={"stable": 1}, way_back=(1,), highest=2))
    again, known = switch.read(repository, "net")
    assert again == config and known == Record(aliases={"stable": 1}, way_back=(1,), highest=2)


def test_an_empty_record_takes_no_line(path, repository):
    before = path.read_text()
    config, _ = switch.read(repository, "net")
    switch.write(repository, "net", config, Record(highest=4))
    assert path.read_text().count(MARK) == 1
    switch.write(repository, "net", config, Record())
    assert path.read_text() == before


def test_a_write_that_changes_nothing_writes_nothing(path, repository):
    config, known = switch.read(repository, "net")
    path.write_text(OWNED + '# modelport: {"highest": 4}\n')
    inode = path.stat().st_ino
    config, known = switch.read(repository, "net")
    switch.write(repository, "net", config, known)
    assert path.stat().st_ino == inode
    switch.write(repository, "net", config, dataclasses.replace(known, highest=5))
    assert path.stat().st_ino != inode, "a change is a new file"


def test_the_owners_text_stays_where_only_the_record_changes(path, repository):
    path.write_text(OWNED)
    config, _ = switch.read(repository, "net")
    switch.write(repository, "net", config, Record(tags={1: ("good",)}))
    assert path.read_text().endswith("\n" + OWNED)
    switch.write(repository, "net", config, Record())
    assert path.read_text() == OWNED


def test_the_owners_comments_stay_where_the_configuration_changes(path, repository):
    path.write_text(OWNED)
    config, known = switch.read(repository, "net")
    configs.set_versions(config, [1])
    switch.write(repository, "net", config, known)
    text = path.read_text()
    assert text.startswith("# Ours: two copies, since one is too slow.\n# All there is.\nname:")
    assert switch.read(repository, "net") == (config, Record())
    configs.set_versions(config, [1, 2])
    switch.write(repository, "net", config, known)
    assert path.read_text().count("# Ours") == 1


def test_a_comment_at_the_very_end_swallows_nothing(path, repository):
    path.write_text(path.read_text() + "# the end")
    config, known = switch.read(repository, "net")
    configs.set_versions(config, [3])
    switch.write(repository, "net", config, known)
    assert switch.read(repository, "net") == (config, Record())


def test_text_that_looks_like_a_comment_in_a_value_is_no_comment(path, repository):
    config, known = switch.read(repository, "net")
    config.parameters["note"].string_value = "a\n# modelport: {\n# not a comment"
    switch.write(repository, "net", config, known)
    configs.set_versions(config, [7])
    switch.write(repository, "net", config, known)
    assert switch.read(repository, "net") == (config, Record())


def test_nothing_is_written_over_a_damaged_file(path, repository):
    config, known = switch.read(repository, "net")
    path.write_text("broken {")
    with pytest.raises(ManifestError):
        switch.write(repository, "net", config, known)
    assert path.read_text() == "broken {"


def test_what_the_disk_refuses_is_one_clear_error_and_leaves_the_file(path, repository):
    config, known = switch.read(repository, "net")
    before = path.read_text()
    staging = repository.parent / "model_repository.state" / "staging"
    staging.rmdir()
    staging.write_text("in the way")
    configs.set_versions(config, [3])
    with pytest.raises(RepositoryError, match="cannot be written"):
        switch.write(repository, "net", config, known)
    assert path.read_text() == before


def test_a_missing_configuration_is_one_clear_error(repository, path):
    path.unlink()
    with pytest.raises(ManifestError):
        switch.read(repository, "net")
