"""TorchScript and torch.export files, factories and their weights as sources."""

from __future__ import annotations

import pickle
import sys
import textwrap
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch

from modelport.convert.source_files import load_program, load_torchscript, make, read_weights
from modelport.errors import ConversionError, SourceFormatError, UnsafeSourceError, UsageError

FREE = torch.export.Dim.DYNAMIC


def save_program(path: Path, module: torch.nn.Module, args: tuple[Any, ...], dynamic: Any) -> Path:
    torch.export.save(torch.export.export(module, args, dynamic_shapes=dynamic), path)
    return path


class Pair(torch.nn.Module):
    def forward(self, user: torch.Tensor, item: torch.Tensor) -> torch.Tensor:
        return user + item.float().sum(-1, keepdim=True)


# --- programs --------------------------------------------------------------------------------------------------------


def test_a_program_states_its_inputs(tmp_path):
    args = (torch.ones(3, 2), torch.ones(3, 4, dtype=torch.int32))
    path = save_program(tmp_path / "p.pt2", Pair().eval(), args, ({0: FREE}, {0: FREE, 1: FREE}))
    module, inputs = load_program(path)
    assert [(d.name, str(d.dtype), d.sizes[0]) for d in inputs] == [
        ("user", "FP32", "batch"),
        ("item", "INT32", "batch"),
    ]
    assert inputs[0].sizes == ("batch", 2) and isinstance(inputs[1].sizes[1], str)
    assert module(torch.ones(5, 2), torch.ones(5, 7, dtype=torch.int32)).shape == (5, 2)


@pytest.mark.parametrize("dynamic", [None, ({0: FREE}, None)], ids=["all fixed", "one free"])
def test_a_program_without_a_free_first_axis_in_every_input_has_no_batch_axis(tmp_path, dynamic):
    args = (torch.ones(3, 2), torch.ones(3, 4)) if dynamic is None else (torch.ones(3, 2), torch.ones(1, 4))
    _, inputs = load_program(save_program(tmp_path / "p.pt2", Pair().eval(), args, dynamic))
    assert not any(d.batched for d in inputs)


def test_a_program_with_an_input_that_is_no_tensor_is_refused(tmp_path):
    class Times(torch.nn.Module):
        def forward(self, x: torch.Tensor, n: int) -> torch.Tensor:
            return x * n

    path = save_program(tmp_path / "p.pt2", Times(), (torch.ones(3, 2), 2), None)
    with pytest.raises(ConversionError, match="no tensors"):
        load_program(path)


@pytest.mark.parametrize("loader", [load_program, load_torchscript])
def test_what_torch_cannot_read_is_a_format_error(tmp_path, loader):
    path = tmp_path / "net.pt"
    path.write_bytes(b"PK\x03\x04 and nothing else")
    with pytest.raises(SourceFormatError, match=r"net\.pt") as caught:
        loader(path)
    assert caught.value.why and caught.value.fix and caught.value.path == str(path)


# --- factories -------------------------------------------------------------------------------------------------------


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A package `shop.nets` in the working folder, with factories."""
    (tmp_path / "shop").mkdir()
    (tmp_path / "shop" / "__init__.py").touch()
    (tmp_path / "shop" / "nets.py").write_text(
        textwrap.dedent(
            """
            import torch

            def net():
                return torch.nn.Linear(3, 2)

            def seeded():
                torch.manual_seed(0)
                return torch.nn.Linear(3, 2)

            def noisy():
                made = torch.nn.BatchNorm1d(2)
                made.running_mean += torch.rand(2)
                return made

            def lazy():
                return torch.nn.LazyLinear(2)

            made = torch.nn.Linear(3, 2)

            def known():
                return made

            def empty():
                return torch.nn.ReLU()

            def failing():
                raise RuntimeError("no luck")

            def needs(size):
                return torch.nn.Linear(size, 2)

            def nothing():
                return None
            """
        )
    )
    monkeypatch.chdir(tmp_path)
    path, modules = list(sys.path), set(sys.modules)
    yield "shop.nets"
    sys.path[:] = path
    for name in set(sys.modules) - modules:
        if name.startswith("shop"):
            del sys.modules[name]


def test_a_factory_in_the_working_folder_is_called(package):
    assert isinstance(make(f"{package}:seeded", None), torch.nn.Linear)


@pytest.mark.parametrize(("name", "where"), [("net", "'weight'"), ("noisy", "'running_mean'"), ("lazy", "'weight'")])
def test_a_factory_that_gives_other_weights_at_each_call_is_refused_without_weights(package, name, where):
    """A forgotten --weights must not publish what nobody trained."""
    with pytest.raises(UsageError, match="are random") as caught:
        make(f"{package}:{name}", None)
    assert where in caught.value.why and "--weights FILE" in caught.value.fix


@pytest.mark.parametrize("name", ["seeded", "known", "empty"])
def test_a_factory_that_gives_the_same_weights_at_each_call_needs_no_file(package, name):
    assert isinstance(make(f"{package}:{name}", None), torch.nn.Module)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("missing", "AttributeError"),
        ("failing", "RuntimeError: no luck"),
        ("needs", "TypeError"),
    ],
)
def test_a_factory_that_gives_no_model_is_one_clear_error(package, name, reason):
    with pytest.raises(UsageError) as caught:
        make(f"{package}:{name}", None)
    assert reason in caught.value.why and name in caught.value.what and caught.value.fix


def test_a_script_that_ends_itself_is_one_clear_error(package, tmp_path):
    """Its exit code 0 must not look like success."""
    (tmp_path / "shop" / "script.py").write_text("raise SystemExit(0)\n")
    with pytest.raises(UsageError) as caught:
        make("shop.script:net", None)
    assert "SystemExit" in caught.value.why


def test_a_module_that_is_not_there_is_one_clear_error(package):
    with pytest.raises(UsageError, match="no_such_package"):
        make("no_such_package.nets:net", None)


# --- weights ---------------------------------------------------------------------------------------------------------


def state() -> dict[str, torch.Tensor]:
    return {"weight": torch.arange(6.0).reshape(2, 3), "bias": torch.tensor([5.0, 7.0])}


def saved(path: Path, kind: str, content: Any = None) -> Path:
    content = state() if content is None else content
    if kind == "safetensors":
        safetensors.torch.save_file(content, path)
    else:
        torch.save(content, path, _use_new_zipfile_serialization=kind != "legacy")
    return path


@pytest.mark.parametrize("kind", ["safetensors", "torch", "legacy"])
def test_weights_of_every_kind_are_loaded(package, tmp_path, kind):
    model = make(f"{package}:net", saved(tmp_path / "weights", kind))
    assert torch.equal(model.weight, state()["weight"]) and torch.equal(model.bias, state()["bias"])


def test_a_checkpoint_with_a_state_dict_inside_is_read(tmp_path):
    path = saved(tmp_path / "w.ckpt", "torch", {"state_dict": state(), "epoch": 3})
    assert torch.equal(read_weights(path)["bias"], state()["bias"])


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ({"weight": torch.ones(2, 3)}, "bias"),
        ({**state(), "extra": torch.ones(1)}, "extra"),
        ({**state(), "bias": torch.ones(3)}, "size mismatch"),
    ],
    ids=["missing", "extra", "shape"],
)
def test_weights_that_do_not_fit_name_what_differs(package, tmp_path, content, complaint):
    with pytest.raises(ConversionError) as caught:
        make(f"{package}:net", saved(tmp_path / "w.safetensors", "safetensors", content))
    assert complaint in caught.value.why and "w.safetensors" in caught.value.what


def test_weights_for_something_that_is_no_torch_module_are_refused(package, tmp_path):
    with pytest.raises(UsageError, match="NoneType"):
        make(f"{package}:nothing", saved(tmp_path / "w.safetensors", "safetensors"))


@pytest.mark.parametrize(
    "content", [[torch.ones(2)], {"a": 3}, {"weight": [1, 2]}], ids=["list", "number", "nested list"]
)
def test_a_file_without_a_state_dict_is_a_format_error(tmp_path, content):
    with pytest.raises(SourceFormatError, match=r"w\.pt"):
        read_weights(saved(tmp_path / "w.pt", "torch", content))


def test_a_checkpoint_tells_what_is_in_it_and_how_to_get_at_the_weights(tmp_path):
    content = {"epoch": 3, "net": state(), "optimizer": {"state": {}, "param_groups": [{"lr": 0.1}]}}
    with pytest.raises(SourceFormatError) as caught:
        read_weights(saved(tmp_path / "w.pt", "torch", content))
    assert caught.value.why == "it holds a dict of 'epoch', 'net', 'optimizer'; like a state dict looks 'net'"
    made = caught.value.fix.partition("torch.save(")[2].partition(", 'weights.pt')")[0]
    assert torch.equal(eval(made)["bias"], state()["bias"]), "what it says to run gives the weights"


def test_a_pickled_module_is_refused_and_not_loaded(tmp_path, payload):
    """Neither as torch.save wrote it nor as a bare pickle; nothing in it runs."""
    torch.save({"weight": payload}, tmp_path / "a.pt")
    torch.save(torch.nn.Linear(3, 2), tmp_path / "b.pt")
    (tmp_path / "c.pt").write_bytes(pickle.dumps(payload))
    for name in "abc":
        with pytest.raises((UnsafeSourceError, SourceFormatError)) as caught:
            read_weights(tmp_path / f"{name}.pt")
        assert caught.value.why and caught.value.fix
    assert not payload.ran()


@pytest.mark.parametrize(
    "content", [b"", b"PK\x03\x04", np.random.default_rng(1).bytes(200)], ids=["empty", "cut", "random"]
)
def test_damaged_weights_are_a_format_error(tmp_path, content):
    (tmp_path / "w.pt").write_bytes(content)
    with pytest.raises(SourceFormatError):
        read_weights(tmp_path / "w.pt")


def test_missing_weights_are_a_format_error(tmp_path):
    with pytest.raises(SourceFormatError, match="missing"):
        read_weights(tmp_path / "missing.pt")
