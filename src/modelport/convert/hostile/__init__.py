"""Checks of model files that come from strangers, made before anything loads them.

`convert.sniff.kind_of` says what a file is; `check` then looks inside it without running anything: nothing is
unpickled, imported, linked or followed. A file that passes is loaded by the source's own module with that
framework's safest setting; a file that does not is refused, and never tried again with a weaker setting.

    refusals            where something was found, and the two errors; bounded reading of JSON
    archives            zip: bombs, names, links, overlaps          (standard library)
    pickles             opcode scan of a pickle                     (standard library)
    expressions         strings that torch evaluates                (standard library)
    weights             safetensors and state dicts                 (standard library)
    keras_configs       every class and function a config names     (standard library)
    h5_files            links, filters and sizes in HDF5            (h5py)
    keras_files         .keras and legacy .h5
    onnx_files          external data, custom operators             (onnx)
    torchscript_files   TorchScript archives                        (standard library)
    exported_programs   torch.export .pt2 archives                  (standard library)
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from pathlib import Path
from typing import Literal, cast

Kind = Literal["onnx", "keras", "h5", "torchscript", "exported_program"]

CHECKS: dict[Kind, tuple[str, str]] = {
    "onnx": ("onnx_files", "check_onnx"),
    "keras": ("keras_files", "check_keras"),
    "h5": ("keras_files", "check_h5"),
    "torchscript": ("torchscript_files", "check_torchscript"),
    "exported_program": ("exported_programs", "check_exported_program"),
}


def check(path: Path, kind: Kind) -> None:
    """Look inside a model file for what would run code, or reach outside the file, when it is loaded.

    Args:
        path: The file.
        kind: What `sniff.kind_of` said it is.

    Raises:
        SourceFormatError: It is cut off or damaged, or needs operators or classes that are not there.
        UnsafeSourceError: Loading it would run code or read other files.
    """
    module, function = CHECKS[kind]
    checker = cast(Callable[[Path], None], getattr(importlib.import_module(f"{__name__}.{module}"), function))
    checker(path)
