"""Files cut off anywhere, and with flipped bits: one of the two errors, or none, and soon."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from modelport.convert import hostile
from modelport.convert.hostile.weights import check_weights
from modelport.convert.sniff import kind_of
from modelport.errors import SourceFormatError, UnsafeSourceError

MODELS = ("onnx", "keras", "h5", "torchscript", "exported_program")
WEIGHTS = ("safetensors", "state_dict", "legacy_state_dict")
CUTS, FLIPS = 40, 60
MOST_SECONDS = 2.0


def model(path: Path) -> None:
    hostile.check(path, kind_of(path))


def outcome(check: Callable[[Path], object], path: Path) -> type[Exception] | None:
    """What a check says, in less than two seconds; anything but the two errors fails the test."""
    start = time.monotonic()
    try:
        check(path)
        found = None
    except (SourceFormatError, UnsafeSourceError) as exc:
        found = type(exc)
        assert exc.what and exc.why and exc.fix and str(path) in str(exc)
    assert time.monotonic() - start < MOST_SECONDS
    return found


def dice() -> random.Random:
    seed = random.randrange(1 << 32)
    print("seed", seed)
    return random.Random(seed)


@pytest.mark.parametrize("kind", [*MODELS, *WEIGHTS])
def test_good_files_pass_every_check(samples: dict[str, Path], kind: str) -> None:
    assert outcome(model if kind in MODELS else check_weights, samples[kind]) is None


@pytest.mark.parametrize("kind", [*MODELS, *WEIGHTS])
def test_a_file_cut_off_anywhere_is_refused(samples: dict[str, Path], tmp_path: Path, kind: str) -> None:
    data = samples[kind].read_bytes()
    check = model if kind in MODELS else check_weights
    path = tmp_path / samples[kind].name
    # The numbers behind a legacy state dict are counted by torch.load alone; its pickles are what is checked.
    longest = len(data) - 1 if kind != "legacy_state_dict" else len(data) // 2
    lengths = {1, 4, 8, 22, longest, *dice().sample(range(1, longest), CUTS)}
    for length in sorted(lengths):
        path.write_bytes(data[:length])
        assert outcome(check, path) is not None, length


@pytest.mark.parametrize("kind", [*MODELS, *WEIGHTS])
def test_flipped_bits_never_raise_anything_else(samples: dict[str, Path], tmp_path: Path, kind: str) -> None:
    data = samples[kind].read_bytes()
    check = model if kind in MODELS else check_weights
    path = tmp_path / samples[kind].name
    random_source = dice()
    refused = 0
    for _ in range(FLIPS):
        changed = bytearray(data)
        for _ in range(random_source.choice((1, 1, 3, 20))):
            changed[random_source.randrange(len(data))] ^= 1 << random_source.randrange(8)
        path.write_bytes(changed)
        refused += outcome(check, path) is not None
    assert refused, "no flip was noticed, so the check looks at nothing"


@pytest.mark.parametrize("kind", [*MODELS, *WEIGHTS])
def test_content_of_one_kind_given_to_every_other_check_is_refused(samples: dict[str, Path], kind: str) -> None:
    for other in MODELS:
        if other != kind:
            assert outcome(lambda path, other=other: hostile.check(path, other), samples[kind]) is not None, other
