"""What is known of a served model that its callers may know: tensors, labels, versions, card, and an example."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from modelport.describe import example as examples
from modelport.describe import tensors
from modelport.describe.example import Example
from modelport.describe.tensors import Tensor
from modelport.errors import ManifestError, VersionNotFoundError
from modelport.repository import manifest as manifests
from modelport.repository import switch
from modelport.repository.card import CARD_FILE
from modelport.repository.layout import config_path
from modelport.repository.manifest import Manifest
from modelport.repository.versions import loaded_versions


@dataclass(frozen=True, kw_only=True)
class Facts:
    """A model.

    Attributes:
        name: Its name.
        version: The version that answers where none is named.
        versions: What a caller may name: the loaded versions, then the aliases.
        max_batch_size: Rows of a request at most; 0 where the tensors have no batch axis.
        inputs: In the model's order.
        outputs: In the model's order.
        card: The version's card, Markdown; empty where there is none.
        manifest: Of the version; None where there is none.
        example: From the golden inputs; None where there are none.
    """

    name: str
    version: int
    versions: tuple[str, ...]
    max_batch_size: int
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    card: str = ""
    manifest: Manifest | None = None
    example: Example | None = None

    @property
    def batched(self) -> bool:
        """Whether every tensor has a batch axis in front of `dims`."""
        return self.max_batch_size > 0

    @property
    def title(self) -> str:
        """The card's first heading, or the name."""
        first = self.card.partition("\n")[0].strip()
        return first.removeprefix("# ").strip() if first.startswith("# ") else self.name


def read(repository: Path, name: str) -> Facts:
    """What is known of a model. What cannot be read of its version is left out.

    Args:
        repository: The model repository.
        name: The model.

    Raises:
        ModelNotFoundError: There is no such model.
        VersionNotFoundError: None of its versions is loaded.
        ManifestError: Its `config.pbtxt` cannot be read.
    """
    loaded = loaded_versions(repository, name)
    if not loaded:
        raise VersionNotFoundError(
            f"model {name!r} is not served",
            why=f"{config_path(repository, name)} names no version that is there",
            fix=f"promote a version of it; 'modelport list {name}' shows them",
            model=name,
        )
    config, record = switch.read(repository, name)
    model = repository / name
    folder = model / str(loaded[-1])
    inputs, outputs = (tuple(tensors.of(one, model) for one in group) for group in (config.input, config.output))
    manifest, batch = _manifest(folder), int(config.max_batch_size)
    return Facts(
        name=name,
        version=loaded[-1],
        versions=(*map(str, loaded), *(word for word, to in sorted(record.aliases.items()) if to in loaded)),
        max_batch_size=batch,
        inputs=inputs,
        outputs=outputs,
        card=tensors.text(folder / CARD_FILE),
        manifest=manifest,
        example=examples.read(folder, manifest.spec, inputs, outputs, batched=batch > 0) if manifest else None,
    )


def _manifest(folder: Path) -> Manifest | None:
    try:
        return manifests.read(folder)
    except ManifestError:
        return None
