"""TorchScript archives: pickles that are not its own, and code that touches files."""

from __future__ import annotations

import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from modelport.convert.hostile.torchscript_files import check_torchscript
from modelport.errors import SourceFormatError, UnsafeSourceError

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


class Rich(torch.nn.Module):
    """Attributes of every type that TorchScript keeps, and control flow."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = torch.nn.Sequential(torch.nn.Linear(3, 3), torch.nn.ReLU())
        self.words, self.table = ["a", 'quote " and \\ and é'], {"x": 1.5}
        self.pair, self.big, self.device, self.dtype = ("a", None), 1 << 40, torch.device("cpu"), torch.float32
        self.save_every: int = 3
        self.ops: int = 2
        self.register_buffer("short_floats", torch.ones(3, dtype=torch.bfloat16))

    def forward(self, x: torch.Tensor, names: list[str], extra: torch.Tensor | None = None) -> tuple[torch.Tensor, str]:
        y = self.layers(x)
        for index in range(self.save_every):
            y = y + float(index) * self.table["x"]
        if extra is not None:
            y = torch.einsum("ij,kj->ik", y, extra)
        assert y.dim() == 2, 'it\'s "two"\n'
        return y.to(self.dtype), f"{self.words[0]}: {names[0]}"


class WithLayers(torch.nn.Module):
    """Layers with state of many kinds."""

    def __init__(self) -> None:
        super().__init__()
        self.net = torch.nn.Sequential(torch.nn.Conv2d(1, 2, 3), torch.nn.BatchNorm2d(2), torch.nn.GELU())
        self.attention = torch.nn.TransformerEncoderLayer(4, 2, 8, batch_first=True)
        self.rnn = torch.nn.LSTM(4, 4, batch_first=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.rnn(self.attention(self.net(x).flatten(1, 2)))[0]


@pytest.mark.parametrize("frozen", [False, True])
@pytest.mark.parametrize("how", ["script", "trace"])
def test_what_torch_writes_passes(tmp_path: Path, how: str, frozen: bool) -> None:
    model, example = WithLayers().eval(), torch.ones(2, 1, 6, 6)
    module = torch.jit.script(model) if how == "script" else torch.jit.trace(model, example, check_trace=False)
    torch.jit.save(torch.jit.freeze(module) if frozen else module, tmp_path / "a.pt")
    check_torchscript(tmp_path / "a.pt")
    if how == "script":
        torch.jit.save(torch.jit.script(Rich().eval()), tmp_path / "b.pt", _extra_files={"notes.txt": "save torch.os"})
        check_torchscript(tmp_path / "b.pt")


def test_quantised_models_pass(tmp_path: Path) -> None:
    model = torch.ao.quantization.quantize_dynamic(torch.nn.Sequential(torch.nn.Linear(4, 4)), {torch.nn.Linear})
    torch.jit.save(torch.jit.script(model), tmp_path / "a.pt")
    check_torchscript(tmp_path / "a.pt")


class Saves(torch.nn.Module):
    """Writes a file when it is called."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path = str(path)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        torch.save(x, self.path)
        return x


class SavesOnLoad(torch.nn.Module):
    """Writes a file when it is loaded."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path = str(path)

    @torch.jit.export
    def __getstate__(self) -> tuple[str, bool]:
        return self.path, self.training

    @torch.jit.export
    def __setstate__(self, state: tuple[str, bool]) -> None:
        self.path = state[0]
        self.training = state[1]
        torch.save(torch.ones(1), self.path)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x


class Maps(torch.nn.Module):
    """Reads a file into a tensor."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.from_file("/etc/passwd", False, 10, dtype=torch.uint8)


def test_code_that_writes_a_file_is_refused_and_does_not_run(tmp_path: Path, refused: Callable) -> None:
    mark = tmp_path / "written"
    torch.jit.save(torch.jit.script(Saves(mark)), tmp_path / "a.pt")
    refused(check_torchscript, tmp_path / "a.pt", UnsafeSourceError, "'save'", "code/__torch__")
    assert not mark.exists()
    torch.jit.load(tmp_path / "a.pt")(torch.ones(1))
    assert mark.exists(), "the payload does not work, so the test shows nothing"


def test_code_that_writes_a_file_while_loading_is_refused_and_does_not_run(tmp_path: Path, refused: Callable) -> None:
    mark = tmp_path / "written"
    torch.jit.save(torch.jit.script(SavesOnLoad(mark)), tmp_path / "a.pt")
    mark.unlink(missing_ok=True)
    refused(check_torchscript, tmp_path / "a.pt", UnsafeSourceError, "'save'")
    assert not mark.exists()
    torch.jit.load(tmp_path / "a.pt")
    assert mark.exists(), "the payload does not work, so the test shows nothing"


def test_code_that_reads_a_file_is_refused(tmp_path: Path, refused: Callable) -> None:
    torch.jit.save(torch.jit.script(Maps()), tmp_path / "a.pt")
    refused(check_torchscript, tmp_path / "a.pt", UnsafeSourceError, "'from_file'")


@pytest.fixture
def with_line(tmp_path: Path, rezip: Callable) -> Callable[[str], Path]:
    """`with_line(text)`: a model whose forward has one more line."""

    def build(line: str) -> Path:
        torch.jit.save(torch.jit.script(torch.nn.Sequential(torch.nn.ReLU())), tmp_path / "good.pt")
        with zipfile.ZipFile(tmp_path / "good.pt") as archive:
            # torch puts a number into the name when another module of this class was traced before in this process.
            member = next(name for name in archive.namelist() if "/modules/activation" in name and name.endswith(".py"))
            code = archive.read(member).decode()
        assert "    _0 = " in code
        return rezip(
            tmp_path / "good.pt", {member: code.replace("    _0 = ", f"    {line}\n    _0 = ", 1).encode()}, "a.pt"
        )

    return build


@pytest.mark.parametrize(
    "line",
    [
        'torch.save(input, "x")',
        'torch . save(input, "x")',
        'input.save("x")',
        "f = torch.save",
        'ops.aten.save(input, "x")',
        "f = torch",
        "f = ops",
        "f = [torch, ops]",
        'getattr(torch, "save")(input, "x")',
        'getattr(input, "save")("x")',
        'getattr(input, "sa" "ve")("x")',
        'getattr(input, "\\163ave")("x")',
        'getattr(input, "x" + "y")',
        "getattr(input)",
        "getattr(input, name)",
        "getattr",
        "torch. \\\n      save(input)",
        'a = """save"""',
        "a = 'save'",
        "a = 1  # a comment",
        'a = "open',
        "a = $1",
        'ops.prim.rpc_sync("host", 1)',
        'torch.from_file("x")',
        'x = "é" \u00e9',
    ],
)
def test_code_that_could_hide_a_file_operator_is_refused(with_line: Callable, refused: Callable, line: str) -> None:
    refused(check_torchscript, with_line(line), UnsafeSourceError, "activation")


@pytest.mark.parametrize(
    "line", ['a = "torch.save is text"', "a = (self).saved", 'b = getattr(self, "0")', "c = input.ops"]
)
def test_harmless_code_passes(with_line: Callable, line: str) -> None:
    check_torchscript(with_line(line))


@pytest.mark.parametrize(
    ("line", "word"),
    [
        ("a = ops.torchvision.nms(input, input, 0.5)", "torchvision"),
        ("a = ops.my_ops.fancy(input)", "my_ops"),
        ("a : __torch__.torch.classes.mine.Tokenizer = b", "mine::Tokenizer"),
    ],
)
def test_custom_operators_and_classes_are_a_format_error(
    with_line: Callable, refused: Callable, line: str, word: str
) -> None:
    refused(check_torchscript, with_line(line), SourceFormatError, word, "custom")


@pytest.mark.parametrize("member", ["data.pkl", "constants.pkl", "traced_inputs.pkl", "bytecode.pkl"])
def test_a_python_pickle_in_the_archive_is_refused_and_does_not_run(
    samples: dict, rezip: Callable, payload: object, refused: Callable, member: str
) -> None:
    path = rezip(samples["torchscript"], {f"net/{member}": pickle.dumps(payload, protocol=2)})
    refused(check_torchscript, path, UnsafeSourceError, member, "system")
    assert not payload.ran()


def test_a_custom_class_in_the_pickle_is_a_format_error(samples: dict, rezip: Callable, refused: Callable) -> None:
    data = b"\x80\x02c__torch__.torch.classes.mine\nTokenizer\n)\x81."
    refused(
        check_torchscript, rezip(samples["torchscript"], {"net/data.pkl": data}), SourceFormatError, "mine::Tokenizer"
    )


@pytest.mark.parametrize(
    "changes", [{"other/data.pkl": b"."}, {"net/constants.pkl": None}, {"net/model.json": b"{}"}, {"loose": b"1"}]
)
def test_archives_of_another_form_are_format_errors(
    samples: dict, rezip: Callable, refused: Callable, changes: dict
) -> None:
    refused(check_torchscript, rezip(samples["torchscript"], changes), SourceFormatError)


def test_the_operators_of_the_installed_torch_that_take_file_names_are_those_denied() -> None:
    """A new version of torch with a new such operator makes this fail; then deny it."""
    from modelport.convert.hostile import exported_programs, torchscript_files

    words = ("file", "path", "save", "library", "url")
    found = set()
    for schema in torch._C._jit_get_all_schemas():
        namespace, _, name = schema.name.partition("::")
        texts = [argument.name for argument in schema.arguments if "str" in str(argument.type)]
        if any(word in text.lower() for text in [*texts, name if texts else ""] for word in words):
            found.add((namespace, name))
    assert {("aten", "save"), ("aten", "from_file")} <= found
    denied = torchscript_files._FILE_OPERATORS & exported_programs._DENIED_OPERATORS
    namespaces = torchscript_files._OWN_NAMESPACES
    assert {name for namespace, name in found if namespace in namespaces} <= denied, found
