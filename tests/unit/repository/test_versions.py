"""Which versions Triton is to load, and which one callers get that name none."""

from __future__ import annotations

import pytest

from modelport.errors import ModelNotFoundError
from modelport.repository.versions import loaded_versions, serving_version


@pytest.mark.parametrize(
    ("policy", "loaded"),
    [
        ("", (10,)),
        ("version_policy { latest { } }", ()),
        ("version_policy { latest { num_versions: 2 } }", (2, 10)),
        ("version_policy { latest { num_versions: 9 } }", (1, 2, 10)),
        ("version_policy { all { } }", (1, 2, 10)),
        ("version_policy { specific { versions: [ 2, 1 ] } }", (1, 2)),
        ("version_policy { specific { versions: [ 3 ] } }", ()),
        ("version_policy { specific { } }", ()),
        ("broken {", ()),
        (None, ()),
    ],
)
def test_the_policy_and_the_folders_say_what_is_loaded_and_the_highest_serves(repository, policy, loaded):
    for number in (1, 2, 10):
        (repository / "net" / str(number)).mkdir(parents=True)
    if policy is not None:
        (repository / "net" / "config.pbtxt").write_text(policy)
    assert loaded_versions(repository, "net") == loaded
    assert serving_version(repository, "net") == (loaded[-1] if loaded else None)


def test_a_missing_model_is_an_error(repository):
    repository.mkdir()
    with pytest.raises(ModelNotFoundError):
        serving_version(repository, "net")
