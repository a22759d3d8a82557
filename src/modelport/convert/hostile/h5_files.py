"""HDF5: everything in a file that could make the library read another file, load a filter, or fill the memory.

Used for Keras's legacy `.h5` and for the `model.weights.h5` inside `.keras`. Objects are found by walking hard
links; what a soft or external link points to is never opened, and no dataset is read. Format:
https://support.hdfgroup.org/documentation/hdf5/latest/_f_m_t4.html
"""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any, BinaryIO

import h5py

from modelport.convert.hostile.refusals import Place, reading

MAX_OBJECTS = 200_000
MAX_ATTRIBUTE_BYTES = 64 << 20
# Datasets may state so much more than the file holds; compressed weights and small files stay far below.
FREE_BYTES = 64 << 20
MAX_RATIO = 50

# deflate, shuffle, fletcher32, nbit, scaleoffset, and h5py's own LZF; others are loaded as plugins.
_FILTERS = frozenset({1, 2, 3, 5, 6, 32000})
_NUMBERS_AND_TEXT = (h5py.h5t.INTEGER, h5py.h5t.FLOAT, h5py.h5t.STRING, h5py.h5t.ENUM, h5py.h5t.BITFIELD)
_COMPOUND = (*_NUMBERS_AND_TEXT, h5py.h5t.COMPOUND, h5py.h5t.OPAQUE, h5py.h5t.ARRAY)
_FIX = "save the model again with Keras"


class Window(io.RawIOBase):
    """Part of an open file, as a file that can be read and sought.

    Args:
        file: The whole file.
        offset: Where the part begins.
        size: Its length in bytes.
    """

    def __init__(self, file: BinaryIO, offset: int, size: int) -> None:
        super().__init__()
        self._file, self._offset, self._size, self._at = file, offset, size, 0

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Move to an offset from the part's begin, the current position, or the part's end."""
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        self._at = max(0, base + offset)
        return self._at

    def tell(self) -> int:
        """The current position."""
        return self._at

    def readable(self) -> bool:
        """True."""
        return True

    def seekable(self) -> bool:
        """True."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Read into a buffer; the number of bytes."""
        length = max(0, min(len(buffer), self._size - self._at))
        self._file.seek(self._offset + self._at)
        data = self._file.read(length)
        buffer[: len(data)] = data
        self._at += len(data)
        return len(data)


def check_structure(source: Path | io.RawIOBase | io.BytesIO, size: int, place: Place) -> bytes | None:
    """Refuse links out of the file, data in other files, plugins, and sizes beyond the file.

    Args:
        source: The file, or an open part of one.
        size: Its length in bytes.
        place: For messages.

    Returns:
        The root's attribute `model_config` (JSON, UTF-8), or None when there is none.

    Raises:
        SourceFormatError: It is cut off or damaged.
        UnsafeSourceError: It reaches outside the file, or would fill the memory.
    """
    try:
        with reading(place), h5py.File(source, "r") as file:
            _walk(file, size, place)
            config = file.attrs.get("model_config")
    except (RuntimeError, KeyError, ValueError, TypeError, OverflowError, MemoryError, EOFError) as exc:
        raise place.malformed("HDF5 cannot read it", why=str(exc).splitlines()[0][:200] if str(exc) else "") from exc
    if config is None or isinstance(config, bytes):
        return config
    if isinstance(config, str):
        return config.encode("utf-8", "surrogateescape")
    raise place.malformed("its attribute 'model_config' is not text")


def _walk(file: Any, size: int, place: Place) -> None:
    stack: list[tuple[Any, str]] = [(file["/"].id, "")]
    seen: set[object] = set()
    stated = 0
    while stack:
        group, path = stack.pop()
        _check_attributes(group, place.inside(path or "/"))
        for name in _link_names(group):
            text = f"{path}/{name.decode('utf-8', 'replace')}"
            here = place.inside(text)
            _check_link(group, name, here)
            found = h5py.h5o.open(group, name)
            key = (h5py.h5o.get_info(found).fileno, h5py.h5o.get_info(found).addr)
            if key in seen:
                continue
            seen.add(key)
            if len(seen) > MAX_OBJECTS:
                raise place.unsafe(f"it holds more than {MAX_OBJECTS} objects", why="no model has so many", fix=_FIX)
            if isinstance(found, h5py.h5g.GroupID):
                stack.append((found, text))
            elif isinstance(found, h5py.h5d.DatasetID):
                stated += _check_dataset(found, here)
                _check_attributes(found, here)
            else:
                raise here.malformed("this is neither a group nor a dataset", fix=_FIX)
            if stated > FREE_BYTES + MAX_RATIO * size:
                raise here.unsafe(
                    f"the datasets up to here state {stated} bytes in a file of {size}",
                    why="reading them would fill the memory",
                    fix=_FIX,
                )


def _link_names(group: Any) -> list[bytes]:
    names: list[bytes] = []
    group.links.iterate(names.append)
    return names


def _check_link(group: Any, name: bytes, here: Place) -> None:
    kind = group.links.get_info(name).type
    if kind != h5py.h5l.TYPE_HARD:
        what = {h5py.h5l.TYPE_SOFT: "a soft link", h5py.h5l.TYPE_EXTERNAL: "a link to another file"}
        raise here.unsafe(
            f"this is {what.get(kind, 'a link of an unknown kind')}",
            why="Keras writes no links; following it would open something else",
            fix=_FIX,
        )


def _check_dataset(dataset: Any, here: Place) -> int:
    """The bytes that a dataset states to hold."""
    created = dataset.get_create_plist()
    if created.get_layout() == h5py.h5d.VIRTUAL:
        raise here.unsafe("this is a virtual dataset", why="its data lie in other files", fix=_FIX)
    if created.get_external_count():
        raise here.unsafe("this dataset's data lie in another file", why="reading it would read that file", fix=_FIX)
    for index in range(created.get_nfilters()):
        number = created.get_filter(index)[0]
        if number not in _FILTERS:
            raise here.unsafe(
                f"this dataset needs the HDF5 filter {number}", why="it would be loaded as a shared library", fix=_FIX
            )
    _check_type(dataset.get_type(), here)
    return int(dataset.get_space().get_simple_extent_npoints() * dataset.get_type().get_size())


def _check_attributes(owner: Any, here: Place) -> None:
    for index in range(h5py.h5a.get_num_attrs(owner)):
        attribute = h5py.h5a.open(owner, index=index)
        _check_type(attribute.get_type(), here)
        stated = attribute.get_space().get_simple_extent_npoints() * attribute.get_type().get_size()
        if stated > MAX_ATTRIBUTE_BYTES:
            raise here.unsafe(f"an attribute states {stated} bytes", why="reading it would fill the memory", fix=_FIX)


def _check_type(kind: Any, here: Place) -> None:
    if kind.get_class() not in _COMPOUND:
        raise here.unsafe(
            "this holds references or lists of varying length", why="a model's weights are plain numbers", fix=_FIX
        )
