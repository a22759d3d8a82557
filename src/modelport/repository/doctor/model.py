"""One model's folder, as its files are: ours or anybody's, read once and never loaded."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from modelport.convert import sniff
from modelport.convert.hostile import Kind
from modelport.errors import (
    InvalidNameError,
    ManifestError,
    ModelportError,
    SourceFormatError,
)
from modelport.repository import config as configs
from modelport.repository import manifest as manifests
from modelport.repository.doctor import onnx_header, text_fields
from modelport.repository.doctor.backends import AOTI, GUESSES, PLATFORMS, USUAL_FILES
from modelport.repository.doctor.finding import Place
from modelport.repository.doctor.onnx_header import Header
from modelport.repository.doctor.text_fields import Field
from modelport.spec import parse_version

MAX_ONNX_BYTES = 2**31 - 1  # of one protobuf message
OWN_FOLDERS = ("warmup", "initial_state", "configs")  # folders of a model that Triton takes for no version
_MAX_CONFIG_BYTES = 16 << 20
_LINE = re.compile(r"(\d+):\d+ : ")


@dataclass(frozen=True, kw_only=True)
class Model:
    """One model's folder.

    Attributes:
        name: The folder's name.
        folder: Its full path.
        base: The repository's full path.
        text: Of `config.pbtxt`; None where it is missing or no text.
        config: None where it is missing or cannot be read.
        problem: Why it cannot be read; empty where it can, or is missing.
        problem_line: The line of the problem.
        versions: The version folders with a proper number, ascending.
        selected: Those that Triton loads.
    """

    name: str
    folder: Path
    base: Path
    text: str | None
    config: configs.ModelConfig | None
    problem: str
    problem_line: int | None
    versions: tuple[int, ...]
    selected: tuple[int, ...]

    def with_text(self, text: str) -> Model:
        """The model as it would be with another text in its configuration."""
        return _parsed(self.folder, self.base, text, "", self.versions)

    @cached_property
    def fields(self) -> tuple[Field, ...]:
        """Where the fields of the configuration stand."""
        return text_fields.parse(self.text or "")

    @cached_property
    def entries(self) -> tuple[Path, ...]:
        """What is in the folder, sorted."""
        return entries(self.folder)

    @property
    def ensemble(self) -> bool:
        """Whether it is an ensemble."""
        return self.config is not None and (
            self.config.platform == configs.ENSEMBLE or self.config.HasField("ensemble_scheduling")
        )

    @cached_property
    def guessed(self) -> str:
        """The backend as Triton would guess it from the first folder, by name; empty where it cannot."""
        first = next((path for path in self.entries if path.is_dir()), None)
        names = {path.name for path in entries(first)} if first else set()
        return next((backend for file, backend in GUESSES.items() if file in names), "")

    @cached_property
    def backend(self) -> str:
        """The backend that runs it, said or guessed; `ensemble` for an ensemble, empty when unknown."""
        if self.ensemble:
            return configs.ENSEMBLE
        if self.config is None:
            return self.guessed if self.text is None else ""
        by_file = GUESSES.get(self.config.default_model_filename, "")
        return str(self.config.backend or PLATFORMS.get(self.config.platform, "") or by_file or self.guessed)

    @property
    def artefact(self) -> str:
        """The artefact's name in a version folder; empty where it is not known, or there is none."""
        named = "" if self.config is None else str(self.config.default_model_filename)
        platform = "" if self.config is None else self.config.platform
        if not named and platform in ("tensorflow_savedmodel", "tensorflow_graphdef"):
            return "model." + str(platform).removeprefix("tensorflow_")
        if platform == AOTI:
            return named or "model.pt2"
        if self.ensemble or (self.backend == "pytorch" and self.runtime):  # a module of Python, with files of its own
            return ""
        return named or USUAL_FILES.get(self.backend, "")

    @property
    def runtime(self) -> str:
        """What the configuration says of how its backend is to be loaded; empty as it should be."""
        return "" if self.config is None else str(self.config.runtime)

    @cached_property
    def headers(self) -> Mapping[int, Header]:
        """Version to what its ONNX file says beside the weights; for those that can be read."""
        return {version: found for version, found in self._opened.items() if isinstance(found, Header)}

    @cached_property
    def damaged(self) -> Mapping[int, ModelportError]:
        """Version to why its artefact is not what the backend loads."""
        return {version: found for version, found in self._opened.items() if isinstance(found, ModelportError)}

    @cached_property
    def _opened(self) -> Mapping[int, Header | ModelportError | None]:
        found: dict[int, Header | ModelportError | None] = {}
        for version in self.versions:
            path = self.artefact_path(version)
            if path is not None and os.path.lexists(path):
                found[version] = _open(path, self.kind)
        return found

    @cached_property
    def published(self) -> frozenset[int]:
        """The versions with a manifest that can be read."""
        return frozenset(version for version in self.versions if _is_published(self.folder / str(version)))

    @property
    def kind(self) -> Kind | None:
        """What its artefact has to be; None where only Triton can tell."""
        if self.backend == "onnxruntime":
            return "onnx"
        other = self.runtime or (self.config is not None and self.config.platform == AOTI)
        return "torchscript" if self.backend == "pytorch" and not other else None

    @property
    def batched(self) -> bool:
        """Whether a batch axis comes before the dims of its tensors."""
        return self.config is not None and self.config.max_batch_size > 0

    def at(self, *path: str, index: int = 0) -> Place:
        """Where a field of the configuration is written; the file alone where it is not."""
        found = text_fields.find(self.fields, *path) if path else []
        return self.at_line(found[index].line if index < len(found) else None)

    def at_line(self, line: int | None) -> Place:
        """A line of the configuration."""
        return Place(path=Path(self.name, configs.CONFIG_FILE), model=self.name, line=line)

    def at_path(self, path: Path) -> Place:
        """A file or folder of the model, given by its full path."""
        return Place(path=Path(os.path.relpath(path, self.base)), model=self.name)

    def mentions(self, name: str) -> bool:
        """Whether the configuration speaks of a file or folder of that name, wherever."""
        return name in (self.text or "")

    def artefact_path(self, version: int) -> Path | None:
        """The artefact's full path; None where its name is not known. A folder can stand for the file in it."""
        if not self.artefact or outside(self.artefact):
            return None
        path = self.folder / str(version) / self.artefact
        inner = path / USUAL_FILES.get(self.backend, "")
        return inner if self.backend == "onnxruntime" and path.is_dir() else path


def read_model(folder: Path, base: Path) -> Model:
    """Read one model's folder."""
    path = folder / configs.CONFIG_FILE
    text, problem = None, ""
    if os.path.lexists(path):
        try:
            if not path.is_file() or path.stat().st_size > _MAX_CONFIG_BYTES:
                raise OSError(f"it is no plain file of at most {_MAX_CONFIG_BYTES} bytes")
            text = path.read_bytes().decode("utf-8")  # line ends stay as they are
        except (OSError, UnicodeDecodeError) as exc:
            problem = str(exc)
    versions = tuple(sorted(number for path in entries(folder) if path.is_dir() and (number := proper(path.name))))
    return _parsed(folder, base, text, problem, versions)


def _parsed(folder: Path, base: Path, text: str | None, problem: str, versions: tuple[int, ...]) -> Model:
    config: configs.ModelConfig | None = None
    if text is not None:
        try:
            config = configs.parse(text, where=folder / configs.CONFIG_FILE)
        except ManifestError as exc:
            problem = exc.why.partition(": ")[2]
    line = _LINE.match(problem)
    return Model(
        name=folder.name,
        folder=folder,
        base=base,
        text=text,
        config=config,
        problem=problem,
        problem_line=int(line[1]) if line else None,
        versions=versions,
        selected=loaded(config, versions),
    )


def loaded(config: configs.ModelConfig | None, numbers: Sequence[int]) -> tuple[int, ...]:
    """Which of the versions that have a folder Triton loads, ascending; `latest { }` is none, as it says no number."""
    if config is None:
        return tuple(sorted(numbers)[-1:])
    policy = config.version_policy
    if policy.HasField("latest") and not policy.latest.num_versions:
        return ()
    return configs.selected(config, numbers)


def is_model(folder: Path) -> bool:
    """Whether a folder of the root is meant as a model: it has a configuration, or a version folder."""
    return os.path.lexists(folder / configs.CONFIG_FILE) or any(
        path.name.isdecimal() and path.is_dir() for path in entries(folder)
    )


def proper(name: str) -> int | None:
    """The version number of a folder's name as it should be; None for any other name."""
    try:
        return parse_version(name)
    except InvalidNameError:
        return None


def outside(name: str) -> bool:
    """Whether a file's name in a configuration leads out of the folder in which it is looked for."""
    return name.startswith("/") or ".." in name.split("/")


def _is_published(folder: Path) -> bool:
    if not (folder / manifests.MANIFEST_FILE).is_file():  # a pipe would never end
        return False
    try:
        manifests.read(folder)
    except ManifestError:
        return False
    return True


def _open(path: Path, kind: Kind | None) -> Header | ModelportError | None:
    """Look into an artefact without loading it."""
    if kind is None or (kind == "onnx" and path.stat().st_size > MAX_ONNX_BYTES):
        return None
    try:
        found = sniff.kind_of(path)
        if found != kind:
            return SourceFormatError(
                f"{path.name} is {found}", why=f"the backend loads {kind}", fix="export the model again", path=str(path)
            )
        return onnx_header.read(path) if kind == "onnx" else None
    except (ModelportError, OSError) as exc:
        if isinstance(exc, ModelportError):
            return exc
        return SourceFormatError(f"{path.name} cannot be read", why=str(exc), fix="check its permissions")


def entries(folder: Path) -> tuple[Path, ...]:
    """What is in a folder, sorted; nothing where it cannot be listed."""
    try:
        return tuple(sorted(folder.iterdir()))
    except OSError:
        return ()


def type_name(tensor: Any) -> str:
    """The element type of an input or output of a configuration, such as `TYPE_FP32`."""
    return str(tensor.DESCRIPTOR.fields_by_name["data_type"].enum_type.values_by_number[tensor.data_type].name)


def seen_dims(tensor: Any) -> tuple[int, ...]:
    """The dims of an input or output as the model sees them: of `reshape` where there is one."""
    return tuple(tensor.reshape.shape if tensor.HasField("reshape") else tensor.dims)
