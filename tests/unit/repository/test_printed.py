"""The quick reading of a printed configuration gives what the parser gives, or leaves the text to it."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelport.errors import ManifestError
from modelport.repository import config as configs
from modelport.repository import record
from modelport.repository.config import EnsembleStep
from modelport.repository.printed import named_versions
from modelport.repository.record import Record
from modelport.repository.versions import loaded_by
from modelport.spec import DTYPES, ModelSpec, TensorSpec

WHERE = Path("net/config.pbtxt")
names = st.from_regex(r"[A-Za-z_][A-Za-z0-9_.-]{0,12}", fullmatch=True)
words = st.text(max_size=8)
versions = st.lists(st.integers(1, 2**31 - 1), max_size=4, unique=True)
tensors = st.builds(
    TensorSpec,
    name=names,
    dtype=st.sampled_from(DTYPES),
    dims=st.lists(st.integers(-1, 2**40).filter(bool), max_size=3).map(tuple),
)
specs = st.builds(
    ModelSpec,
    name=names,
    inputs=st.lists(tensors, min_size=1, max_size=2).map(tuple),
    outputs=st.lists(tensors, min_size=1, max_size=2).map(tuple),
    max_batch_size=st.sampled_from([0, 1, 32, 10**9 - 1]),
)


@st.composite
def printed(draw, text=names) -> tuple[str, tuple[int, ...]]:
    """What modelport writes for a model, with the versions that it names."""
    spec, wanted = draw(specs), draw(versions)
    if draw(st.booleans()):
        config = configs.build(
            spec,
            backend=draw(st.sampled_from(["onnxruntime", "pytorch", "python"])),
            filename=draw(text),
            versions=wanted,
            label_files={t.name: draw(text) for t in spec.outputs if draw(st.booleans())},
            instance_count=draw(st.integers(0, 9)),
            parameters=draw(st.dictionaries(names, text, max_size=2)),
        )
        if config.HasField("dynamic_batching") and draw(st.booleans()):
            config.dynamic_batching.preferred_batch_size.extend([4, 8])
            config.dynamic_batching.max_queue_delay_microseconds = 100
        config.instance_group[0].kind = draw(st.integers(0, 3))
    else:
        maps = st.dictionaries(names, text, max_size=2)
        steps = draw(st.lists(st.builds(EnsembleStep, model=names, inputs=maps, outputs=maps), max_size=2))
        config = configs.build_ensemble(spec, steps, versions=wanted)
    known = draw(
        st.builds(Record, aliases=st.dictionaries(names.map(lambda w: "a" + w), st.integers(1, 9), max_size=1))
    )
    return record.lines(known) + configs.text(config), tuple(sorted(wanted))


def by_the_parser(text: str) -> tuple[int, ...] | None:
    """What the policy names; None where there is no such policy or no configuration."""
    try:
        config = configs.parse(text, where=WHERE)
    except ManifestError:
        return None
    return configs.versions_of(config) if config.version_policy.HasField("specific") else None


@given(printed())
def test_what_modelport_prints_is_read_without_the_parser(made):
    text, wanted = made
    assert named_versions(text) == by_the_parser(text) == wanted


@given(printed(text=words))
def test_any_text_in_a_field_is_read_as_the_parser_does_or_left_to_it(made):
    text, wanted = made
    assert named_versions(text) in (None, wanted)


PIECES = (
    "\n",
    "}",
    "{",
    " ",
    "#",
    '"',
    "\\",
    "7",
    "-",
    "\r",
    "\u0663",
    "\x00",
    "versions: 3\n",
    "all { }",
    "latest: 1",
)


@given(printed(), st.randoms(use_true_random=False))
def test_a_changed_text_is_read_as_the_parser_does_or_left_to_it(made, rng: random.Random):
    lines = made[0].split("\n")
    for _ in range(rng.randint(1, 3)):
        at, other = rng.randrange(len(lines)), rng.randrange(len(lines))
        match rng.randrange(5):
            case 0:
                lines[at : at + 1] = []
            case 1:
                lines.insert(other, lines[at])
            case 2:
                lines[at], lines[other] = lines[other], lines[at]
            case 3:
                cut = rng.randint(0, len(lines[at]))
                lines[at] = lines[at][:cut] + rng.choice(PIECES) + lines[at][cut + rng.randint(0, 1) :]
            case 4:
                lines.insert(at, rng.choice(PIECES))
        lines = lines or [""]
    text = "\n".join(lines)
    quick = named_versions(text)
    assert quick is None or quick == by_the_parser(text), text


@pytest.mark.parametrize(
    "line",
    ["max_batch_size: 4294967296", "max_batch_size: 010", "max_batch_size: ٣", "max_batch_size: 1 # one", 'name: "a"'],
)
def test_what_only_looks_like_the_form_is_left_to_the_parser(line):
    text = f'name: "net"\nversion_policy {{\n  specific {{\n    versions: 2\n  }}\n}}\n{line}\n'
    assert named_versions(text) is None


@pytest.mark.parametrize(
    ("text", "loaded"),
    [
        ('name: "net"\nversion_policy: { specific: { versions: [3, 1, 9] } }', (1, 3)),
        ("version_policy {\n  specific {\n    versions: 3\n    versions: 1\n  }\n}\n", (1, 3)),
        ("version_policy {\n  specific {\n  }\n}\n", ()),
        ("version_policy { all { } }", (1, 2, 3)),
        ("version_policy { latest { num_versions: 2 } }", (2, 3)),
        ("", (3,)),
    ],
)
def test_every_policy_selects_versions(text, loaded):
    assert loaded_by(text, [1, 2, 3], where=WHERE) == loaded


def test_a_text_that_is_no_configuration_is_one_clear_error():
    with pytest.raises(ManifestError, match="net/config"):
        loaded_by("broken {", [1], where=WHERE)


def test_the_committed_models_are_read_without_the_parser(root):
    paths = sorted((root / "model_repository").glob("*/config.pbtxt"))
    assert paths and all(named_versions(path.read_text()) is not None for path in paths)
