"""The labelled data that a model's gates are judged with, in `<state>/evaluation/gates/<model>.npz`."""

from __future__ import annotations

from pathlib import Path

from modelport.errors import DataError
from modelport.evaluate import data as rows
from modelport.evaluate.data import EvaluationData
from modelport.evaluate.stored import FOLDER
from modelport.repository import disk
from modelport.repository.layout import state_folder


def read(repository: Path, model: str) -> EvaluationData:
    """The data of a model's gates.

    Raises:
        DataError: There is none, or it is damaged.
    """
    file = path(repository, model)
    if not file.is_file():
        raise DataError(
            f"the gates of {model!r} have no evaluation data",
            why=f"there is no file {file.name} in {file.parent}",
            fix=f"'modelport gate {model} --data FILE' (or --data recipe) keeps some",
        )
    return rows.read(file)


def exists(repository: Path, model: str) -> bool:
    """Whether there is data to judge the model's gates with."""
    return path(repository, model).is_file()


def keep(repository: Path, model: str, data: EvaluationData) -> None:
    """Keep the data of a model's gates; its lock is held by the caller.

    Raises:
        RepositoryError: The disk refused.
    """
    with disk.errors(repository):
        rows.write(path(repository, model), data)


def path(repository: Path, model: str) -> Path:
    """Where it is."""
    return state_folder(repository) / FOLDER / "gates" / f"{model}.npz"
