"""Heavy and dangerous things are used in the few modules that are made for them."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

# Package -> the folders and modules under src/modelport that may import it. Wherever else it is needed, the module
# that has it is reached through a registry, or imported inside the function that needs it.
ALLOWED = {
    "torch": (
        "convert/",
        "optimise/distilled.py",
        "optimise/pruned.py",
        "optimise/trained.py",
        "recipes/training.py",
        "server/triton_backends/",
    ),
    "torch_pruning": ("optimise/pruned.py",),
    "keras": ("convert/source_keras.py", "recipes/loaders.py"),
    "h5py": ("convert/",),
    "safetensors": ("convert/",),
    "onnx": ("convert/", "optimise/"),
    "onnxruntime": ("convert/runtime.py", "optimise/", "server/triton_backends/"),
    "onnxscript": (),
    "tritonclient": ("client/", "repository/config.py", "gateway/capture/decoding.py"),
    "google": ("convert/hostile/onnx_files.py", "repository/config.py", "gateway/capture/decoding.py"),
    "triton_python_backend_utils": ("server/triton_backends/",),
    "pytriton": (),
    "pickle": (),
    "cryptography": (
        "gateway/certificates.py",
        "gateway/development_certificate.py",
        "gateway/keys/signing.py",
        "gateway/capture/segment.py",
    ),
    "jwt": ("gateway/keys/signing.py",),
    "fastapi": ("bench/",),
    "jinja2": ("pages/page.py", "describe/client_code.py"),
    "matplotlib": ("pages/pictures.py", "bench/charts.py"),
    "uvicorn": ("bench/",),
    "typer": ("cli/",),
    "rich": ("_render.py", "_progress.py", "_guard.py", "_live.py"),
    "subprocess": ("_process.py",),
    "multiprocessing": (),
    "prometheus_client": ("supervisor/metrics.py", "supervisor/gateway_metrics.py", "supervisor/families.py"),
    "pydantic": ("usage/prices.py",),
    "msgspec": ("gateway/access_log.py",),
    "sklearn": ("recipes/",),
    "pandas": ("recipes/",),
    "pyarrow": ("recipes/",),
    "tensorflow": (),
}

# A caught Exception that is not raised again: module -> functions, with the reason beside each.
ANSWERED = {
    "server/triton_backends/modelport_serving.py": {
        "_alone",  # whatever the model raised is the answer to that request
        "_together",  # each request is then run alone
    },
    "convert/source_torch.py": {
        "dict_keys",  # a probe; the real run raises
        "_as_double",  # no float64 reference: the tolerance is the fixed one, and says so
        "run_double",  # the same
    },
    "convert/source_keras.py": {
        "_copied",  # a model that Keras cannot rebuild is used as it is
    },
    "convert/format_torchscript.py": {"_asks_for_values"},  # the tracer's own warnings decide then
    "supervisor/supervisor.py": {"_look"},  # told as an event and by /healthz; the watch must go on
    "supervisor/gateway.py": {"_watch"},  # told as an event; the gateway serves on, and is looked after again
    "supervisor/usage.py": {"_try"},  # told as an event, and tried again: the log stays until it is counted
    "gateway/capture/receiver.py": {"_keep_next"},  # one record is lost, counted by its reason
    "client/_workers.py": {"_outcome"},  # raised where the work was asked for
    "_guard.py": {"guarded"},  # the one place that turns errors into exit codes
}


def modules(package: Path) -> dict[str, ast.Module]:
    """Path below the package -> syntax tree."""
    return {p.relative_to(package).as_posix(): ast.parse(p.read_text()) for p in sorted(package.rglob("*.py"))}


def packages_of(tree: ast.AST) -> set[str]:
    """The top-level packages that a module imports, anywhere in it."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module.split(".")[0])
    return found


def misplaced(trees: dict[str, ast.Module]) -> list[str]:
    """One line for each import outside the modules in ALLOWED."""
    return [
        f"{name} imports {package}"
        for name, tree in trees.items()
        for package in sorted(packages_of(tree) & set(ALLOWED))
        if not name.startswith(ALLOWED[package] or ("-",))
    ]


def swallowed(trees: dict[str, ast.Module]) -> list[str]:
    """One line for each `except Exception` (or a bare one) without a raise in it, outside ANSWERED."""
    found = []
    for name, tree in trees.items():
        for function in ast.walk(tree):
            if not isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
                continue
            for node in ast.walk(function):
                if isinstance(node, ast.ExceptHandler) and _catches_all(node):
                    raises = any(isinstance(inner, ast.Raise) for inner in ast.walk(node))
                    if not raises and function.name not in ANSWERED.get(name, set()):
                        found.append(f"{name}:{node.lineno} {function.name}")
    return found


def _catches_all(handler: ast.ExceptHandler) -> bool:
    if handler.type is None:
        return True
    return any(isinstance(n, ast.Name) and n.id in ("Exception", "BaseException") for n in ast.walk(handler.type))


@pytest.fixture(scope="module")
def library(root):
    return modules(root / "src" / "modelport")


def test_heavy_packages_are_imported_where_they_belong(library):
    assert misplaced(library) == []


def test_no_caught_exception_is_forgotten(library):
    assert swallowed(library) == []


def test_every_listed_exemption_is_still_needed(library):
    """The table shrinks with the code."""
    for name, functions in ANSWERED.items():
        if name in library:
            without = {key: tree for key, tree in library.items() if key == name}
            names = {node.name for node in ast.walk(without[name]) if isinstance(node, ast.FunctionDef)}
            assert functions <= names, f"{name}: {functions - names}"


@pytest.mark.parametrize(
    ("module", "body", "finder"),
    [
        ("spec.py", "import torch", misplaced),
        ("verify/a.py", "def f():\n    import onnxruntime", misplaced),
        ("server/a.py", "from subprocess import run", misplaced),
        ("convert/a.py", "import pickle", misplaced),
        ("server/a.py", "def f():\n    try:\n        g()\n    except Exception:\n        pass", swallowed),
        ("server/a.py", "def f():\n    try:\n        g()\n    except:\n        return None", swallowed),
        (
            "server/a.py",
            "async def f():\n    try:\n        g()\n    except (OSError, Exception):\n        pass",
            swallowed,
        ),
    ],
)
def test_the_rules_find_what_breaks_them(module, body, finder):
    assert len(finder({module: ast.parse(body)})) == 1


def test_an_exception_that_is_raised_again_is_fine():
    body = "def f():\n    try:\n        g()\n    except Exception as exc:\n        raise ValueError from exc"
    assert swallowed({"server/a.py": ast.parse(body)}) == []


HEAVY = ("torch", "keras", "onnx", "onnxruntime", "h5py", "safetensors", "pandas", "sklearn", "typer", "rich")


def loaded_after(statement: str) -> set[str]:
    """Which of HEAVY a fresh interpreter has loaded after this statement."""
    code = f"import sys\n{statement}\nprint(*({set(HEAVY)!r} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


@pytest.mark.parametrize(
    "statement",
    [
        "import modelport",
        "import modelport.client",
        "import modelport\nmodelport.Client\nmodelport.AsyncClient",
        "import modelport.server",
        "import modelport.repository.layout",
    ],
)
def test_a_callers_machine_needs_no_framework(statement):
    """Neither the package nor the client loads what only a converting machine has."""
    assert loaded_after(statement) == set()


@pytest.mark.parametrize(
    ("statement", "unneeded"),
    [
        ('from modelport.cli import main\nmain(["rollback", "--help"])', "numpy grpc tritonclient pydantic asyncio"),
        ("import modelport.lifecycle.change", "modelport.server.embedded modelport.convert.source_onnx rich"),
    ],
)
def test_a_command_waits_only_for_what_it_needs(statement, unneeded):
    """Who goes back to an earlier version is in a hurry: half of the time of `modelport rollback` are imports."""
    code = f"import sys\n{statement}\nprint(); print(*({set(unneeded.split())!r} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == ""


def test_the_test_above_can_fail():
    assert "torch" in loaded_after("import modelport.convert.source_torch")


BLOCK = """
import sys

class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {blocked!r}:
            raise ModuleNotFoundError(name)

sys.meta_path.insert(0, Missing())
import modelport
modelport.Client
modelport.AsyncClient
"""


def test_the_client_works_where_the_frameworks_are_not_installed():
    """The same, with the packages really out of reach; and the blocking works."""
    run = [sys.executable, "-c", BLOCK.format(blocked=HEAVY)]
    subprocess.run(run, check=True)
    run[-1] += "import modelport.convert.source_torch\n"
    done = subprocess.run(run, capture_output=True, text=True)
    assert done.returncode != 0 and "torch" in done.stderr
