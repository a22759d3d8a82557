"""The smallest golden request of a repository, as JSON: for a first try by hand, and for health checks."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from modelport.convert.types import first_row
from modelport.errors import ManifestError
from modelport.repository import config as configs
from modelport.repository import manifest as manifests
from modelport.repository.layout import model_names
from modelport.repository.versions import loaded_versions, serving_version
from modelport.spec import dtype_of
from modelport.verify import evidence as evidences


@dataclass(frozen=True, kw_only=True)
class Golden:
    """A golden request.

    Attributes:
        model: Whose.
        version: Of which version it is.
        body: The request over HTTP.
        elements: How many values its inputs have.
    """

    model: str
    version: int
    body: str
    elements: int

    @property
    def path(self) -> str:
        """Where it goes."""
        return f"/v2/models/{self.model}/versions/{self.version}/infer"


def smallest(repository: Path, *, most: int) -> Golden | None:
    """That with the fewest values, of the versions that serve; None where none is small enough or goes into JSON.

    Args:
        repository: The model repository.
        most: How many values it may have.
    """
    found = [one for one in _requests(repository) if one.elements <= most]
    return min(found, key=lambda one: (one.elements, one.model), default=None)


def holds(repository: Path, golden: Golden) -> bool:
    """Whether a golden request can still be answered: its version is loaded."""
    try:
        return golden.version in loaded_versions(repository, golden.model)
    except ManifestError:
        return False


def _requests(repository: Path) -> Iterator[Golden]:
    for name in model_names(repository):
        version = serving_version(repository, name)
        if not version:
            continue
        try:
            proof, golden = evidences.read(repository / name / str(version))
            spec = manifests.read(repository / name / str(version)).spec
        except ManifestError:
            continue
        inputs = configs.outside(first_row(golden.inputs) if proof.batched else golden.inputs, spec.inputs)
        if any(array.dtype == "float16" for array in inputs.values()):
            continue
        tensors = [
            {"name": n, "shape": a.shape, "datatype": dtype_of(a).triton, "data": a.ravel().tolist()}
            for n, a in inputs.items()
        ]
        body = json.dumps({"inputs": tensors}, ensure_ascii=False)
        yield Golden(model=name, version=version, body=body, elements=sum(array.size for array in inputs.values()))
