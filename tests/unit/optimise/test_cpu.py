"""What a processor has for int8 decides what is said about it."""

from __future__ import annotations

import pytest

from modelport.optimise.cpu import processor


@pytest.mark.parametrize(
    ("text", "fast", "words"),
    [
        ("flags\t: fpu avx2 avx512f avx512_vnni\n", True, "avx512_vnni"),
        ("Features\t: fp asimd asimddp i8mm\n", True, "asimddp, i8mm"),
        ("flags\t: fpu sse2 avx2\n", False, "no VNNI, AMX or dot-product instructions (avx2)"),
        ("model name\t: something\n", False, "the system does not tell"),
    ],
)
def test_the_advice_follows_from_the_flags(tmp_path, text, fast, words):
    (tmp_path / "cpuinfo").write_text(text)
    found = processor(tmp_path / "cpuinfo")
    assert found.fast is fast and words in found.advice


def test_a_system_without_the_file_is_no_reason_to_fail(tmp_path):
    assert not processor(tmp_path / "none").known
