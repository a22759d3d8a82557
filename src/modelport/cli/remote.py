"""Options of `serve` for a Triton and an Envoy that somebody else starts, such as containers."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Optional

import typer

from modelport.errors import UsageError

Server = Annotated[
    str,
    typer.Option(
        "--server",
        envvar="MODELPORT_SERVER",
        metavar="URL",
        help="Drive this Triton, not an embedded one: http://HOST:PORT[,grpc://HOST:PORT]. --metrics-port is its.",
    ),
]
ServerSecret = Annotated[
    Optional[Path],  # noqa: UP045
    typer.Option(
        "--server-secret",
        envvar="MODELPORT_TRITON_SECRET_FILE",
        metavar="FILE",
        help="The secret of its restricted APIs; without a file, it is in MODELPORT_TRITON_SECRET.",
    ),
]
GatewayElsewhere = Annotated[
    bool,
    typer.Option(
        "--gateway-elsewhere",
        envvar="MODELPORT_GATEWAY_ELSEWHERE",
        help="Write the gateway's files for an Envoy that somebody else starts, such as a container.",
    ),
]


def check(server: str, *, embedded: dict[str, bool], gateway: bool, elsewhere: bool) -> None:
    """Check that options go together.

    Args:
        server: `--server`; empty for the embedded one.
        embedded: Options of the embedded server by name, each with whether it was given.
        gateway: `--gateway`.
        elsewhere: `--gateway-elsewhere`.

    Raises:
        UsageError: They do not.
    """
    given = [name for name, was in embedded.items() if was]
    if server and given:
        raise UsageError(
            f"{', '.join(given)} and --server exclude each other",
            why="they are options of the embedded server, and none is started",
            fix="leave them out, and start the other server as you want it",
        )
    if elsewhere and not gateway:
        raise UsageError(
            "--gateway-elsewhere says where the gateway runs, and there is none",
            why="--gateway is missing",
            fix="add --gateway",
        )
