"""The verb `infer`: ask a served model, with inputs from files or the command line."""

from __future__ import annotations

import io
import json
import re
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np

from modelport.client import Client, pictures
from modelport.errors import UsageError

Array = np.ndarray[Any, np.dtype[Any]]
PICTURES = (".png", ".jpg", ".jpeg")


def infer(
    name: str,
    *,
    url: str,
    inputs: Sequence[str],
    version: int | str | None = None,
    timeout_s: float = 10.0,
    token: str | None = None,
    ca_file: Path | None = None,
) -> dict[str, Array]:
    """Ask a served model.

    Args:
        name: Model name.
        url: Server, such as `http://127.0.0.1:8000` or `grpc://127.0.0.1:8001`.
        inputs: One `NAME=VALUE` per input, see `read_inputs`. Pictures are cut and resized to what the model takes,
            and divided by 255 when it takes floating-point numbers.
        version: One of its versions, or an alias where a gateway answers; None for the one that serves.
        timeout_s: Seconds for the whole call.
        token: Bearer token; None takes the environment variable MODELPORT_TOKEN.
        ca_file: PEM file with the only authorities to trust; None takes MODELPORT_CA, and the system's without it.

    Returns:
        Output name -> array; without the batch axis when the inputs are one sample.

    Raises:
        UsageError: An input cannot be read.
        ModelportError: As `Client.infer`.
    """
    values = read_inputs(inputs)
    with Client(url, timeout_s=timeout_s, token=token, ca_file=ca_file) as client:
        _fit_pictures(client, name, version, inputs, values)
        return client.infer(name, version=version, inputs=values)


def _fit_pictures(
    client: Client, name: str, version: int | str | None, inputs: Sequence[str], values: dict[str, object]
) -> None:
    """Resize and convert what came from picture files, as the model wants it."""
    named = [text.partition("=")[0] for text in inputs if text.lower().endswith(PICTURES) and "=@" in text]
    if not named:
        return
    tensors = {tensor.name: tensor for tensor in client.spec(name, version).inputs}
    for picture in named:
        pixels = values[picture]
        if picture in tensors and isinstance(pixels, np.ndarray):
            values[picture] = pictures.fit(pixels, tensors[picture])


def read_inputs(inputs: Sequence[str]) -> dict[str, object]:
    """Read what `NAME=VALUE` texts say.

    VALUE is JSON (a number, a text, nested lists of them), any other text (taken as it is), or `@FILE`:
    `.npy`; `.npz` (its array NAME, or its only one); `.json`; `.txt` (one text); `.png`, `.jpg`, `.jpeg` (uint8
    [H, W, channels], not resized).

    Args:
        inputs: Such as `image=@cat.png`, `x=[0.5]`, `text=a fine film`.

    Returns:
        Input name -> array, or what JSON gives.

    Raises:
        UsageError: All that cannot be read, together.
    """
    values: dict[str, object] = {}
    problems = []
    for text in inputs:
        name, equals, value = text.partition("=")
        try:
            if not equals or not name:
                raise _UnreadableError("is not NAME=VALUE")
            if name in values:
                raise _UnreadableError("comes a second time")
            values[name] = _file(name, Path(value[1:])) if value.startswith("@") else _inline(name, value)
        except _UnreadableError as error:
            problems.append(f"{_short(name or text)!r} {error}")
    if problems:
        raise UsageError(
            "the inputs cannot be read",
            why="; ".join(problems),
            fix="give one NAME=JSON or NAME=@FILE (.npy .npz .json .txt .png .jpg) for each input, such as x=[0.5]",
        )
    return values


_NUMBERS = re.compile(r"[-+.\d]+(?:[eE][-+]?\d+)?(?:[\s,]+[-+.\d]+(?:[eE][-+]?\d+)?)+")  # several, without brackets


class _UnreadableError(Exception):
    """Says what is wrong with one input; `read_inputs` collects them."""


def _inline(name: str, value: str) -> object:
    try:
        return _plain(json.loads(value))
    except (ValueError, RecursionError):
        if _NUMBERS.fullmatch(value):
            raise _UnreadableError(f"is no JSON: write {name}=[{','.join(value.replace(',', ' ').split())}]") from None
        return value


def _file(name: str, path: Path) -> object:
    reader = _READERS.get(path.suffix.lower())
    if reader is None:
        raise _UnreadableError(f"names a file of no known kind: {path} (known: {' '.join(_READERS)})")
    try:
        return reader(name, path.read_bytes())
    except OSError as error:  # pillow's UnidentifiedImageError is one too
        raise _UnreadableError(f"cannot be read from {path}: {error.strerror or error}") from error
    except (ValueError, RecursionError, NotImplementedError, BadZipFile, EOFError, zlib.error) as error:
        raise _UnreadableError(f"cannot be read from {path}: {error}") from error


def _npy(_: str, content: bytes) -> Array:
    array = np.load(io.BytesIO(content), allow_pickle=False)
    if not isinstance(array, np.ndarray):
        raise _UnreadableError("holds several arrays: name it .npz")
    return array


def _npz(name: str, content: bytes) -> Array:
    arrays = np.load(io.BytesIO(content), allow_pickle=False)
    if isinstance(arrays, np.ndarray):
        raise _UnreadableError("holds a single array: name it .npy")
    key = arrays.files[0] if len(arrays.files) == 1 else name
    if key not in arrays.files:
        raise _UnreadableError(f"is not among the arrays of its file: {', '.join(arrays.files)}")
    array: Array = arrays[key]
    return array


def _json(_: str, content: bytes) -> object:
    return _plain(json.loads(content))


def _text(_: str, content: bytes) -> str:
    return content.decode().strip()


def _image(_: str, content: bytes) -> Array:
    try:
        from PIL import Image
    except ImportError as error:
        raise _UnreadableError("is a picture, which needs the package pillow: pip install pillow") from error
    try:
        with Image.open(io.BytesIO(content)) as image:
            pixels = np.asarray(image if image.mode in ("L", "RGB", "RGBA") else image.convert("RGB"))
    except (Image.DecompressionBombError, SyntaxError) as error:  # SyntaxError is what pillow's PNG reader raises
        raise ValueError(str(error)) from error
    return pixels if pixels.ndim == 3 else pixels[:, :, np.newaxis]


def _plain(value: object) -> object:
    if isinstance(value, dict) or value is None:
        raise _UnreadableError("is JSON, but neither a number, a text nor a list")
    return value


def _short(text: str) -> str:
    return text if len(text) <= 60 else text[:57] + "..."


_READERS: dict[str, Callable[[str, bytes], object]] = {
    ".npy": _npy,
    ".npz": _npz,
    ".json": _json,
    ".txt": _text,
    ".png": _image,
    ".jpg": _image,
    ".jpeg": _image,
}
