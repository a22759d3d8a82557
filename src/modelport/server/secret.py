"""The secret that opens the restricted APIs of one server start, and how it leaves the process's argument list.

Triton takes the secret only as a command-line option, and every user of the machine can read those in
`/proc/PID/cmdline`. Once Triton has read its options, the bytes are overwritten in its memory.
"""

from __future__ import annotations

import secrets
from pathlib import Path

HTTP_HEADER = "modelport-control"
GRPC_HEADER = f"triton-grpc-protocol-{HTTP_HEADER}"

_ARG_START, _ARG_END = 47, 48  # fields 48 and 49 of /proc/PID/stat, counted from 0


def new_secret() -> str:
    """A fresh secret: 32 random bytes in URL-safe letters."""
    return secrets.token_urlsafe(32)


def visible(pid: int, secret: str) -> bool:
    """Whether the argument list of process `pid` shows the secret; False for a process that is gone."""
    try:
        return secret.encode() in Path(f"/proc/{pid}/cmdline").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return False


def scrub(pid: int, secret: str) -> bool:
    """Overwrite the secret in the argument list of a process of ours.

    Returns:
        Whether the argument list no longer shows it. False where the kernel does not let us write.
    """
    needle = secret.encode()
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        # The fields after the program's name start with number 3.
        start, end = int(fields[_ARG_START - 2]), int(fields[_ARG_END - 2])
        with Path(f"/proc/{pid}/mem").open("r+b", buffering=0) as memory:
            memory.seek(start)
            arguments = memory.read(end - start)
            found = arguments.find(needle)
            while found >= 0:
                memory.seek(start + found)
                memory.write(b"x" * len(needle))
                found = arguments.find(needle, found + len(needle))
        return start > 0 and not visible(pid, secret)
    except (OSError, ValueError, IndexError):
        return False
