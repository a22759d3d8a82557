"""torch.export programs: each way in which torch would run code from one, shown to run and shown to be refused."""

from __future__ import annotations

import io
import json
import pickle
import zipfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import torch

from modelport.convert.hostile.exported_programs import check_exported_program
from modelport.errors import SourceFormatError, UnsafeSourceError

pytestmark = pytest.mark.filterwarnings("ignore")
DYNAMIC = torch.export.Dim.DYNAMIC
MODEL = "net/models/model.json"


class Branches(torch.nn.Module):
    """Subgraphs, symbolic sizes, constants, several inputs and outputs, texts."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = torch.nn.ModuleDict({"my-head": torch.nn.Linear(4, 4)})
        self.constant = torch.ones(4)

    def forward(self, x: torch.Tensor, *, y: dict[str, torch.Tensor], mode: str = "a b") -> dict[str, Any]:
        with torch.no_grad():
            z = self.linear["my-head"](x) + self.constant
        z = torch.cond(z.sum() > 0, lambda a: a + 1, lambda a: a - 1, (z,))
        half = x.shape[0] // 2
        return {"out": [z, torch.einsum("ij,kj->ik", x[:half], y["one"])], "size": x.shape[0] * 2}


class Layers(torch.nn.Module):
    """Layers of the usual kinds."""

    def __init__(self) -> None:
        super().__init__()
        self.net = torch.nn.Sequential(torch.nn.Conv2d(1, 2, 3), torch.nn.BatchNorm2d(2), torch.nn.GELU("tanh"))
        self.attention = torch.nn.TransformerEncoderLayer(4, 2, 8, batch_first=True)
        self.rnn = torch.nn.LSTM(4, 4, batch_first=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.rnn(self.attention(self.net(x).flatten(1, 2)))[0]


def test_what_torch_writes_passes_and_loads(tmp_path: Path, samples: dict[str, Path]) -> None:
    check_exported_program(samples["exported_program"])
    programs = {
        "branches": torch.export.export(
            Branches(),
            (torch.ones(6, 4),),
            {"y": {"one": torch.ones(2, 4)}, "mode": "a b"},
            dynamic_shapes={"x": {0: DYNAMIC}, "y": {"one": None}, "mode": None},
        ),
        "layers": torch.export.export(Layers().eval(), (torch.ones(2, 1, 6, 6),), dynamic_shapes=({0: DYNAMIC},)),
        "half": torch.export.export(torch.nn.Linear(2, 2).bfloat16(), (torch.ones(1, 2, dtype=torch.bfloat16),)),
    }
    programs["decomposed"] = programs["layers"].run_decompositions()
    for name, program in programs.items():
        path = tmp_path / f"{name}.pt2"
        torch.export.save(program, path, extra_files={"notes": "anything, such as __import__('os')"})
        check_exported_program(path)
        torch.export.load(path)


@pytest.fixture
def changed(samples: dict[str, Path], rezip: Callable) -> Callable[..., Path]:
    """`changed(change)`: the good program after `change(its JSON)`; `changed(**members)`: with members replaced."""

    def build(change: Callable[[dict], None] = lambda _: None, **members: bytes | None) -> Path:
        program = json.loads(zipfile.ZipFile(samples["exported_program"]).read(MODEL))
        change(program)
        content = {"net/" + name: data for name, data in members.items()}
        return rezip(samples["exported_program"], {MODEL: json.dumps(program).encode(), **content})

    return build


def load_and_run(path: Path) -> None:
    """What somebody would do who does not check; whether it fails in the end does not matter."""
    with suppress(Exception):
        torch.export.load(path).module()(torch.ones(3, 6))


def saved(thing: object, **options: bool) -> bytes:
    file = io.BytesIO()
    torch.save(thing, file, **options)
    return file.getvalue()


@pytest.mark.parametrize("form", ["zip", "legacy", "bare"])
@pytest.mark.parametrize("member", ["data/sample_inputs/model.pt", "data/weights/model.pt", "data/constants/model.pt"])
def test_pickles_that_torch_loads_without_weights_only_are_refused(
    changed: Callable, payload: object, refused: Callable, member: str, form: str
) -> None:
    inputs = ((torch.ones(3, 6), payload), {})
    data = pickle.dumps(inputs) if form == "bare" else saved(inputs, _use_new_zipfile_serialization=form == "zip")
    path = changed(**{member: data})
    refused(check_exported_program, path, UnsafeSourceError, member)
    assert not payload.ran()
    load_and_run(path)
    assert payload.ran() or form == "bare", "the payload does not work, so the test shows nothing"


def test_a_weight_that_says_it_is_a_pickle_is_refused(
    samples: dict, changed: Callable, payload: object, refused: Callable
) -> None:
    config = json.loads(zipfile.ZipFile(samples["exported_program"]).read("net/data/weights/model_weights_config.json"))
    config["config"]["0.weight"]["use_pickle"] = True
    path = changed(
        **{
            "data/weights/model_weights_config.json": json.dumps(config).encode(),
            "data/weights/weight_0": saved(payload),
        }
    )
    refused(check_exported_program, path, UnsafeSourceError, "weight_0", "system")
    assert not payload.ran()
    load_and_run(path)
    assert payload.ran(), "the payload does not work, so the test shows nothing"


@pytest.mark.parametrize(
    "member", ["data/constants/opaque_obj_0", "data/constants/custom_obj_0", "data/aotinductor/model/x.so"]
)
def test_objects_and_machine_code_are_refused(
    changed: Callable, payload: object, refused: Callable, member: str
) -> None:
    refused(check_exported_program, changed(**{member: pickle.dumps(payload)}), UnsafeSourceError, member)
    assert not payload.ran()


def touching(payload: Any) -> str:
    return f"__import__('pathlib').Path('{payload.mark}').touch()"


def test_a_symbolic_size_that_is_code_is_refused(changed: Callable, payload: object, refused: Callable) -> None:
    def change(program: dict) -> None:
        values = program["graph_module"]["graph"]["tensor_values"]
        for value in values.values():
            for size in value["sizes"]:
                if "as_expr" in size:
                    size["as_expr"]["expr_str"] = f"{touching(payload)} or Integer(3)"

    path = changed(change)
    refused(check_exported_program, path, UnsafeSourceError, "model.json", "__import__")
    assert not payload.ran()
    load_and_run(path)
    assert payload.ran(), "the payload does not work, so the test shows nothing"


def test_a_guard_that_is_code_is_refused(changed: Callable, payload: object, refused: Callable) -> None:
    path = changed(lambda program: program["guards_code"].append(f"{touching(payload)} is None"))
    refused(check_exported_program, path, UnsafeSourceError, "model.json", "__import__")
    assert not payload.ran()
    load_and_run(path)
    assert payload.ran(), "the payload does not work, so the test shows nothing"


def test_a_name_that_is_code_is_refused(samples: dict, rezip: Callable, payload: object, refused: Callable) -> None:
    evil = f"a=[{touching(payload)}]"  # def forward(self, a=[...]):
    text = zipfile.ZipFile(samples["exported_program"]).read(MODEL).decode()
    for before, after in ((': {"name": "', '"}'), (', "', '": {"dtype"'), ('{"', '": {"dtype"')):
        text = text.replace(f"{before}input{after}", f"{before}{evil}{after}")
    path = rezip(samples["exported_program"], {MODEL: text.encode()})
    refused(check_exported_program, path, UnsafeSourceError, "model.json", "__import__")
    assert not payload.ran()
    load_and_run(path)
    assert payload.ran(), "the payload does not work, so the test shows nothing"


def set_target(target: str) -> Callable[[dict], None]:
    def change(program: dict) -> None:
        program["graph_module"]["graph"]["nodes"][0]["target"] = target

    return change


def test_a_call_of_any_function_below_torch_is_refused(changed: Callable, payload: object, refused: Callable) -> None:
    def change(program: dict) -> None:
        node = program["graph_module"]["graph"]["nodes"][0]
        node["target"] = "torch.os.system"
        node["inputs"] = [{"name": "", "arg": {"as_string": f"touch {payload.mark}"}, "kind": 1}]

    refused(check_exported_program, changed(change), UnsafeSourceError, "torch.os.system")
    assert not payload.ran()


@pytest.mark.parametrize(
    "target",
    [
        "torch.load",
        "torch.hub.load",
        "torch.ops.load_library",
        "torch.ops.aten.from_file.default",
        "torch.ops.aten.add.__class__",
        "torch.ops.aten.__class__",
        "torch.ops.higher_order.call_torchbind",
        "torch.ops.higher_order.triton_kernel_wrapper_functional",
        "torch.ops.higher_order.cond.__class__",
        "torch._C._jit_set_profiling_mode",
        "_operator.attrgetter",
        "_operator.methodcaller",
        "_operator.call",
        "_operator.add.__class__",
        "math.__loader__",
        "os.system",
        "#namespace:operator",
        "torch.sym_max.__globals__",
        "",
    ],
)
def test_targets_that_are_no_operators_are_refused(changed: Callable, refused: Callable, target: str) -> None:
    refused(check_exported_program, changed(set_target(target)), UnsafeSourceError, "model.json")


def test_custom_operators_are_a_format_error(changed: Callable, refused: Callable) -> None:
    path = changed(set_target("torch.ops.torchvision.nms.default"))
    refused(check_exported_program, path, SourceFormatError, "torchvision::nms", "custom operator")


@pytest.mark.parametrize(
    ("kind", "context"),
    [
        ("collections.defaultdict", '{"default_factory_module":"os","default_factory_name":"abort","dict_context":[]}'),
        ("builtins.dict", '[{"__enum__":true,"fqn":"antigravity:x","name":"y"}]'),
        ("builtins.dict", '{"__enum__":true,"fqn":"antigravity:x","name":"y"}'),
        ("builtins.dict", "[\"a', __import__('os'), '\"]"),
        ("my_package.Output", "null"),
        (["builtins.dict"], "null"),
        ("builtins.tuple", "{"),
    ],
)
def test_tree_specs_that_would_import_something_are_refused(changed: Callable, kind: object, context: str) -> None:
    def change(program: dict) -> None:
        spec = {"type": kind, "context": context, "children_spec": []}
        program["graph_module"]["module_call_graph"][0]["signature"]["in_spec"] = json.dumps([1, spec])

    with pytest.raises((UnsafeSourceError, SourceFormatError), match=r"model\.json"):
        check_exported_program(changed(change))


@pytest.mark.parametrize(
    "change",
    [
        lambda p: p["graph_module"]["graph"]["inputs"].append({"as_string": "it's"}),
        lambda p: p["graph_module"]["graph"]["inputs"].append({"as_string": 'a"b'}),
        lambda p: p["graph_module"]["graph"]["inputs"].append({"as_string": "a\nb"}),
        lambda p: p["graph_module"]["graph"]["tensor_values"].update({"x): pass #": {}}),
        lambda p: p["graph_module"]["graph"]["tensor_values"].update({"metadata": {"expr_str": "eval('1')"}}),
        lambda p: p["graph_module"]["graph"]["tensor_values"].update({"custom": {"as_operator": "torch.os.system"}}),
        lambda p: p["graph_module"]["graph"]["nodes"][0]["inputs"][0].update(name="x=eval('1')"),
        lambda p: p["graph_module"]["signature"]["input_specs"][0]["parameter"].update(parameter_name='a"+eval("1")+"'),
        lambda p: p["graph_module"]["module_call_graph"][0]["signature"].update(forward_arg_names=["a: eval('1')"]),
        lambda p: p["range_constraints"].update({"eval('1')": {"min_val": 1, "max_val": 2}}),
    ],
)
def test_text_with_more_than_names_is_refused_wherever_it_stands(
    changed: Callable, refused: Callable, change: Callable
) -> None:
    refused(check_exported_program, changed(change), UnsafeSourceError, "model.json")


@pytest.mark.parametrize("key", ["expr_str", "target", "in_spec"])
@pytest.mark.parametrize("value", [["eval('1')"], 1, None, {"a": "eval('1')"}])
def test_text_that_is_no_text_does_not_slip_through(changed: Callable, key: str, value: object) -> None:
    with pytest.raises((UnsafeSourceError, SourceFormatError)):
        check_exported_program(changed(lambda program: program["graph_module"].update({key: value})))


def test_surrogates_and_deep_nesting_are_format_errors(changed: Callable, refused: Callable) -> None:
    for text in (b'{"a": "\\ud800"}', b"[" * 100_000, b'{"in_spec": "\\ud800"}', b"{"):
        with pytest.raises((UnsafeSourceError, SourceFormatError), match=r"model\.json"):
            check_exported_program(changed(**{"models/model.json": text}))


@pytest.mark.parametrize(
    "members",
    [
        {"models/model.json": None},
        {"models/x y.json": b"{}"},
        {"models/evil.bin": b"{}"},
        {"data/weights/weight_0": None},
    ],
)
def test_archives_of_another_form_are_format_errors(changed: Callable, refused: Callable, members: dict) -> None:
    refused(check_exported_program, changed(**members), SourceFormatError)


def test_members_of_the_old_form_beside_the_new_are_refused(samples: dict, rezip: Callable, refused: Callable) -> None:
    path = rezip(samples["exported_program"], {"version": b"8.1", "serialized_state_dict.pt": b"."})
    refused(check_exported_program, path, SourceFormatError, "'version'", "outside its folder")


def test_an_empty_weight_of_giant_shape_is_refused(samples: dict, changed: Callable, refused: Callable) -> None:
    config = json.loads(zipfile.ZipFile(samples["exported_program"]).read("net/data/weights/model_weights_config.json"))
    config["config"]["0.weight"]["tensor_meta"]["sizes"] = [{"as_int": 1 << 20}, {"as_int": 1 << 20}]
    members = {
        "data/weights/model_weights_config.json": json.dumps(config).encode(),
        "data/weights/weight_0": b"",
    }
    refused(check_exported_program, changed(**members), UnsafeSourceError, "giant shape")
