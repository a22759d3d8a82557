"""The key with which captured requests are encrypted: in the state folder, or in a file of its owner's choice."""

from __future__ import annotations

import hashlib
import os
import re
import secrets
from dataclasses import dataclass, field
from pathlib import Path

from modelport.errors import EnvironmentUnfitError, ManifestError
from modelport.gateway import private
from modelport.gateway.capture.stored import AREA, RECORDS
from modelport.repository import disk

VARIABLE = "MODELPORT_CAPTURE_KEY_FILE"
FILE = "key"
_BYTES = 32
_TEXT = re.compile(rf"[0-9a-fA-F]{{{2 * _BYTES}}}\s*")


@dataclass(frozen=True, kw_only=True)
class Key:
    """A key for AES-256.

    Attributes:
        secret: Its 32 bytes.
    """

    secret: bytes = field(repr=False)

    @property
    def id(self) -> bytes:
        """Eight bytes that tell it from others, and tell nothing of it."""
        return hashlib.sha256(b"modelport capture key\0" + self.secret).digest()[:8]


def path(repository: Path) -> Path:
    """The key's file: the one that the variable names, or the one in the state folder."""
    named = os.environ.get(VARIABLE, "")
    return Path(named) if named else private.folder(repository, AREA, FILE)


def read(repository: Path) -> Key:
    """The key.

    Raises:
        EnvironmentUnfitError: There is none, or others than its owner may read it.
        ManifestError: The file holds no key.
    """
    file = path(repository)
    try:
        mode, text = file.stat().st_mode, file.read_text(encoding="ascii")
    except (OSError, UnicodeDecodeError) as exc:
        raise EnvironmentUnfitError(
            f"the key of what was captured cannot be read: {file.name}",
            why=f"{type(exc).__name__}: {getattr(exc, 'strerror', None) or 'it is no text'}",
            fix=f"work as the user who runs 'modelport serve', with the same {VARIABLE} if it is set",
        ) from exc
    if mode & 0o077:
        raise EnvironmentUnfitError(
            f"the key of what was captured is open to others: {file.name}",
            why=f"its permissions are {mode & 0o777:o}",
            fix="give it to its owner alone: chmod 600",
        )
    if not _TEXT.fullmatch(text):
        raise ManifestError(
            f"the key of what was captured is no key: {file.name}",
            why=f"it is not {2 * _BYTES} hexadecimal digits",
            fix="give the key back; without it nothing that was captured can be read",
            path=str(file),
        )
    return Key(secret=bytes.fromhex(text.strip()))


def read_or_make(repository: Path) -> Key:
    """The key; a new one in the state folder where there is none, and nothing that another one encrypted.

    A key that the variable names is never made.

    Raises:
        EnvironmentUnfitError, ManifestError: As `read`; or the key is gone with which something was encrypted.
        RepositoryError: The disk refuses.
    """
    file = private.folder(repository, AREA, FILE)
    if not os.environ.get(VARIABLE) and not file.exists():
        with private.locked(repository, AREA), disk.errors(repository):
            if not file.exists():
                _refuse_lost(repository)
                private.write(file, f"{secrets.token_hex(_BYTES)}\n".encode())
    return read(repository)


def _refuse_lost(repository: Path) -> None:
    """A new key in the place of one that is lost would hide that nothing from before can be read."""
    if any(path.is_file() for path in private.folder(repository, AREA, RECORDS).rglob("*")):
        raise EnvironmentUnfitError(
            "the key of what was captured is lost",
            why=f"there are records that were encrypted with it, and no file '{FILE}' beside them",
            fix="give it back from a backup; or delete the records: modelport capture MODEL --off --delete",
        )
