"""What the checks look at: a repository and the container that it is meant for."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from modelport.errors import ModelNotFoundError, RepositoryError
from modelport.repository.doctor.finding import Place
from modelport.repository.doctor.model import Model, is_model, read_model
from modelport.repository.doctor.targets import Target
from modelport.repository.layout import state_folder


@dataclass(frozen=True, kw_only=True)
class Context:
    """A repository to be looked at.

    Attributes:
        repository: Its full path.
        target: The container that it is meant for.
        models: The models to look at.
        others: The other folders that are models.
        whole: Whether the repository itself is looked at too, not only some models.
    """

    repository: Path
    target: Target
    models: tuple[Model, ...]
    others: Mapping[str, Model] = field(default_factory=dict)
    whole: bool = True

    @property
    def state(self) -> Path:
        """The state folder; it need not exist."""
        return state_folder(self.repository)

    def model(self, name: str) -> Model | None:
        """A model of the repository, looked at or not."""
        return next((model for model in self.models if model.name == name), self.others.get(name))

    def at_path(self, path: Path) -> Place:
        """A file or folder beside the models, given by its full path."""
        return Place(path=Path(os.path.relpath(path, self.repository)))


def read(repository: Path, target: Target, names: Sequence[str] = ()) -> Context:
    """Read a repository.

    Args:
        repository: Its folder.
        target: The container that it is meant for.
        names: The models to look at; none: all, and the repository itself.

    Raises:
        RepositoryError: There is no such folder, or it cannot be listed.
        ModelNotFoundError: It holds no model of one of the names.
    """
    root = repository.resolve()
    try:
        folders = [path for path in sorted(root.iterdir()) if path.is_dir() and is_model(path)]
    except OSError as exc:
        raise RepositoryError(
            f"the model repository {repository} cannot be read",
            why=str(exc),
            fix="name the folder that holds the models with --repository",
            path=str(repository),
        ) from exc
    known = {path.name: path for path in folders}
    for name in names:
        if name not in known:
            raise ModelNotFoundError(
                f"there is no model {name!r} in {repository}",
                why=f"it holds {', '.join(map(repr, known)) or 'no model'}",
                fix="name one of these, or none to look at all",
                model=name,
            )
    models = {name: read_model(path, root) for name, path in known.items()}
    wanted = tuple(models[name] for name in (names or known))
    others = {name: model for name, model in models.items() if model not in wanted}
    return Context(repository=root, target=target, models=wanted, others=others, whole=not names)
