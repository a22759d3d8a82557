"""Every class and function that a Keras configuration can name, compared with what the installed Keras has."""

from __future__ import annotations

import copy
import inspect
import json
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from types import FunctionType
from typing import Any

import keras
import pytest
from keras.src.saving import serialization_lib
from keras.src.saving.keras_saveable import KerasSaveable

from modelport.convert.hostile import keras_configs
from modelport.convert.hostile.keras_configs import ACTIVATIONS, CLASS_MODULES, DENIED, check_config
from modelport.convert.hostile.refusals import Place
from modelport.errors import SourceFormatError, UnsafeSourceError

PLACE = Place(path=Path("some.keras"))
OWN_CODE = ("torch.load", "pickle", "importlib", "func_load", "exec(", "eval(", "saved_model", "get_file", "urlopen")


@pytest.fixture
def config(samples: dict[str, Path]) -> dict[str, Any]:
    """The configuration of the good sample."""
    return json.loads(zipfile.ZipFile(samples["keras"]).read("config.json"))


def layer(**facts: object) -> dict[str, Any]:
    """A layer's configuration, a good one where nothing else is said."""
    return {
        "module": "keras.layers",
        "class_name": "Dense",
        "config": {"name": "suspect", "units": 1},
        "registered_name": None,
        **facts,
    }


def with_layer(config: dict[str, Any], entry: dict[str, Any]) -> dict[str, Any]:
    """The model with one more layer."""
    changed = copy.deepcopy(config)
    changed["config"]["layers"].append(entry)
    return changed


def refused(config: object, *words: str) -> None:
    with pytest.raises(UnsafeSourceError) as caught:
        check_config(config, PLACE)
    for word in ("some.keras", *words):
        assert word in str(caught.value), str(caught.value)


def test_the_good_model_passes_with_one_more_layer(config: dict[str, Any]) -> None:
    check_config(config, PLACE)
    check_config(with_layer(config, layer()), PLACE)


@pytest.mark.parametrize("module", ["keras.layers", None, "keras.src.layers.core.lambda_layer", "os", "nowhere"])
@pytest.mark.parametrize("name", sorted(DENIED))
def test_layers_that_hold_code_are_refused_by_name_in_every_module(config: dict, name: str, module: str | None) -> None:
    refused(with_layer(config, layer(class_name=name, module=module)), "'suspect'", name)
    without = layer(class_name=name)
    del without["module"]
    refused(with_layer(config, without), "'suspect'", name)


@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("os", "system"),
        ("builtins", "eval"),
        ("subprocess", "Popen"),
        ("my_package.layers", "MyLayer"),
        ("__main__", "MyLayer"),
        ("keras_hub.layers", "TokenEmbedding"),
        ("keras_nlp.models", "Backbone"),
        ("kerasx.layers", "Dense"),
        ("keras.layers.os", "Dense.x"),
        ("keras.utils", "Progbar"),
        ("keras.utils", "CustomObjectScope"),
        ("keras.callbacks", "BackupAndRestore"),
        ("keras.export", "ExportArchive"),
        ("keras.src.export.tfsm_layer", "SomethingElse"),
        ("keras.src.utils.torch_utils", "Wrapper"),
        ("keras.src.saving.saving_lib", "DiskIOStore"),
        ("keras.src.layers.layer_test", "Dense"),
        ("keras.saving", "load_model"),
        ("keras.config", "enable_unsafe_deserialization"),
        ("keras.layers", "deserialize"),
        ("keras.layers", "_private"),
        ("keras", "Function"),
        ("keras.src", "Dense"),
        ("", "system"),
        (None, "MyLayer"),
    ],
)
def test_classes_that_are_not_keras_own_are_refused(config: dict, module: str | None, name: str) -> None:
    refused(with_layer(config, layer(module=module, class_name=name)), "'suspect'", name)


@pytest.mark.parametrize(
    "name", ["os", "Custom>MyLayer", "my_package>Dense", "keras_export", "deserialize", "__builtins__"]
)
def test_names_of_the_legacy_form_that_no_keras_class_has_are_refused(config: dict, name: str) -> None:
    refused(with_layer(config, {"class_name": name, "config": {"name": "suspect"}}), "'suspect'", name)


@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("keras.utils", "get_file"),
        ("keras.config", "enable_unsafe_deserialization"),
        ("keras.saving", "load_model"),
        ("keras.activations", "get"),
        ("keras.activations", "deserialize"),
        ("keras.losses", "deserialize"),
        ("keras.ops", "cond"),
        ("builtins", "eval"),
        ("builtins", "my_activation"),
        ("builtins", "Custom>my_activation"),
        ("os", "system"),
        (None, "relu"),
    ],
)
def test_functions_that_are_no_activations_are_refused(config: dict, module: str | None, name: str) -> None:
    function = {"module": module, "class_name": "function", "config": name, "registered_name": name}
    refused(with_layer(config, layer(config={"name": "suspect", "activation": function})), "'suspect'", name)


@pytest.mark.parametrize("name", sorted(serialization_lib.NON_MODELING_APIS))
def test_what_keras_itself_does_not_deserialise_is_refused(config: dict, name: str) -> None:
    module, _, last = name.rpartition(".")
    refused(with_layer(config, layer(module=module, class_name=last)), last)
    function = {"module": module, "class_name": "function", "config": last}
    refused(with_layer(config, layer(config={"activation": function})), last)


@pytest.mark.parametrize("hidden", ["build_config", "compile_config", "inbound_nodes", "anything"])
def test_code_is_found_wherever_it_hides_in_a_layer(config: dict, hidden: str) -> None:
    code = {"class_name": "__lambda__", "config": {"value": ["4wAAAA==", None, None]}}
    refused(with_layer(config, layer(**{hidden: [{"deep": [{"deeper": code}]}]})), "'suspect'", "__lambda__")
    wrapper = layer(class_name="TimeDistributed", config={"name": "outer", "layer": layer(class_name="Lambda")})
    refused(with_layer(config, wrapper), "'suspect'", "Lambda")


def test_the_compile_config_of_the_whole_model_is_not_loaded_and_not_looked_at(config: dict) -> None:
    config["compile_config"] = {"loss": {"module": "builtins", "class_name": "function", "config": "my_loss"}}
    check_config(config, PLACE)
    config["build_config"] = config["compile_config"]
    refused(config, "my_loss")


def test_a_registered_name_of_another_class_is_refused(config: dict) -> None:
    refused(with_layer(config, layer(registered_name="my_package>Evil")), "'suspect'", "my_package>Evil")
    check_config(with_layer(config, layer(registered_name="Dense")), PLACE)


def test_a_vocabulary_that_is_the_path_of_a_file_is_refused(config: dict) -> None:
    lookup = layer(class_name="StringLookup", config={"name": "words", "vocabulary": "/etc/passwd"})
    refused(with_layer(config, lookup), "'words'", "/etc/passwd")
    lookup["config"]["vocabulary"] = ["a", "b"]
    check_config(with_layer(config, lookup), PLACE)


@pytest.mark.parametrize(
    "broken", [[], None, 3, {}, {"class_name": "Model"}, {"class_name": ["a"], "config": {}}, {"config": {}}]
)
def test_what_is_no_model_is_a_format_error(broken: object) -> None:
    with pytest.raises(SourceFormatError, match="not that of a Keras model"):
        check_config(broken, PLACE)


def test_classes_named_by_no_string_and_endless_nesting_are_format_errors(config: dict) -> None:
    for facts in ({"class_name": ["Dense"]}, {"module": {"a": 1}}):
        with pytest.raises(SourceFormatError):
            check_config(with_layer(config, layer(**facts)), PLACE)
    deep: list = []
    for _ in range(100_000):
        deep = [deep]
    with pytest.raises(SourceFormatError, match="deep"):
        check_config(with_layer(config, layer(config=deep)), PLACE)


def public(module: str) -> dict[str, object]:
    return {name: thing for name, thing in vars(sys.modules[module]).items() if not name.startswith("_")}


def test_every_public_layer_of_the_installed_keras_passes_unless_denied(config: dict) -> None:
    names = [name for name, thing in public("keras.layers").items() if isinstance(thing, type)]
    assert len(names) > 100
    for name in names:
        if name not in DENIED:
            check_config(with_layer(config, layer(class_name=name)), PLACE)


def test_every_layer_of_the_installed_keras_whose_module_could_run_code_is_denied() -> None:
    """A new version of Keras with a new such layer makes this fail; then read that layer and extend DENIED."""
    found = set()
    for name, thing in public("keras.layers").items():
        if isinstance(thing, type) and any(
            word in inspect.getsource(sys.modules[thing.__module__]) for word in OWN_CODE
        ):
            found.add(name)
    assert found <= DENIED.keys(), found - DENIED.keys()
    assert {"TFSMLayer", "TorchModuleWrapper"} <= found  # the test sees something


def test_the_modules_that_are_accepted_hold_nothing_but_building_blocks() -> None:
    """Keras imports from a module only what it can save; and nothing that can be saved reaches outside."""
    allowed = [name for name in sys.modules if CLASS_MODULES.fullmatch(name)]
    assert len(allowed) > 200
    for name in allowed:
        for bound, thing in public(name).items():
            if not isinstance(thing, type) or not issubclass(thing, KerasSaveable) or thing is KerasSaveable:
                continue
            if thing.__name__ in DENIED:
                assert bound in DENIED, f"{name}.{bound} is another name for {thing.__name__}"
            else:
                home = inspect.getsource(sys.modules[thing.__module__])
                assert not any(word in home for word in ("torch.load", "func_load", "pickle")), (name, thing)


def test_the_activations_are_those_of_the_installed_keras() -> None:
    found = {name for name, thing in public("keras.activations").items() if isinstance(thing, FunctionType)}
    assert found - keras_configs._NOT_MODELLING <= ACTIVATIONS


def test_the_legacy_reader_would_take_any_name_so_that_names_are_restricted() -> None:
    from keras.src.legacy.saving import saving_utils

    with pytest.raises(TypeError, match="not callable"):  # it looked up the module dictionary's own __builtins__
        saving_utils.model_from_config({"class_name": "__builtins__", "config": {"x": 1}})


def test_control_a_lambda_runs_when_it_is_not_refused(tmp_path: Path, rezip: Callable) -> None:
    mark = tmp_path / "ran"
    model = keras.Sequential([keras.Input((2,)), keras.layers.Lambda(_touching(mark))])
    model.save(tmp_path / "lambda.keras")
    mark.unlink(missing_ok=True)
    config = json.loads(zipfile.ZipFile(tmp_path / "lambda.keras").read("config.json"))
    refused(config, "lambda", "Lambda")
    assert not mark.exists()
    keras.saving.load_model(tmp_path / "lambda.keras", safe_mode=False)
    assert mark.exists(), "the payload does not work, so the test shows nothing"


def _touching(mark: Path) -> Callable[[object], object]:
    path = str(mark)
    return lambda x: (__import__("os").mknod(path), x)[1] if not __import__("os").path.exists(path) else x
