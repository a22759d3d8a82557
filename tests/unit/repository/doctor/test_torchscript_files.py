"""The arguments of `forward` are read from the archive's text, as torch itself would say."""

from __future__ import annotations

import pytest
import torch

from modelport.repository.doctor.torchscript_files import _signature, arguments


class Named(torch.nn.Module):
    def forward(self, image: torch.Tensor, words: list[str], pair: dict[str, torch.Tensor]) -> torch.Tensor:
        return image + pair[words[0]]


class Traced(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = torch.nn.Linear(3, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.inner(x)


def test_names_are_those_of_torch(tmp_path):
    for module in (torch.jit.script(Named()), torch.jit.script(Traced()), torch.jit.trace(Traced(), torch.ones(1, 3))):
        path = tmp_path / "model.pt"
        torch.jit.save(module, str(path))
        schema = module._c._get_method("forward").schema
        assert arguments(path) == [argument.name for argument in schema.arguments[1:]]


def test_a_file_that_is_none_has_no_names(tmp_path):
    for content in (b"", b"PK\x05\x06" + bytes(18), b"x" * 100):
        (tmp_path / "model.pt").write_bytes(content)
        assert arguments(tmp_path / "model.pt") is None


@pytest.mark.parametrize(
    ("code", "names"),
    [
        (
            "class A(Module):\n  def forward(self: A,\n    x: Dict[str, Tensor],\n    y: Tensor) -> int:\n",
            ["x", "y"],
        ),
        (
            "class B(Module):\n  def forward(self: B, z: int) -> int:\nclass A(Module):\n  def other(self: A):\n",
            None,
        ),
        ("class A(Module):\n  def forward(self: A) -> Tensor:\n", []),
        ("", None),
    ],
)
def test_signatures(code, names):
    assert _signature(code, "A") == names
