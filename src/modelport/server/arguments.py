"""The command line of the embedded `tritonserver`: the few options that modelport owns."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from modelport.errors import UsageError
from modelport.server.secret import HTTP_HEADER
from modelport.server.toolchain import Toolchain

# What a caller never needs. Health, metadata, inference stay open, and so does model-config: modelport's own client
# does not ask for it, other Triton clients do, and it only reads.
RESTRICTED_APIS = ("model-repository", "shared-memory", "statistics", "trace", "logging")

# Bytes of shared memory per model instance at first and per step of growth.
SHM_DEFAULT_BYTES = 4 * 2**20
SHM_GROWTH_BYTES = 16 * 2**20

LOAD_THREADS = 16  # so many versions can hang in their loading, and others still load

EXIT_TIMEOUT_S = 20  # seconds that requests in flight have to finish after SIGTERM


# What would open the server to others: its addresses, its restrictions, and listeners that bind to every address.
OWNED_OPTIONS = (
    "--http-address",
    "--grpc-address",
    "--metrics-address",
    "--http-restricted-api",
    "--grpc-restricted-protocol",
    "--allow-sagemaker",
    "--allow-vertex-ai",
)


def harmless(extra: Iterable[str]) -> tuple[str, ...]:
    """The further options of a caller, once none of them opens the server to others.

    Args:
        extra: Options as `tritonserver` takes them; it also takes the beginning of a name for the whole name.

    Raises:
        UsageError: They contain options that are not the caller's to set.
    """
    words = tuple(extra)
    names = [word.partition("=")[0] for word in words]
    wrong = [n for n in names if len(n) > 2 and any(owned.startswith(n) for owned in OWNED_OPTIONS)]
    if wrong:
        raise UsageError(
            f"extra_args must not hold {', '.join(wrong)}",
            why="the embedded server answers on loopback only, and its control APIs need the secret",
            fix="leave them out; to serve others, put the gateway in front or use the official container",
        )
    return words


def command(
    toolchain: Toolchain,
    repository: Path,
    trial: Path,
    *,
    host: str,
    ports: Mapping[str, int],
    secret: str,
    shm_prefix: str,
    log_verbose: int = 0,
    extra: Iterable[str] = (),
) -> list[str]:
    """The command that starts the server.

    Args:
        toolchain: Program and backend directory.
        repository: Full path of the model repository.
        trial: Full path of a second one, for versions that are tried under another name.
        host: Loopback address for all three listeners.
        ports: `HTTP`, `gRPC` and `metrics`.
        secret: Value of the header that opens the restricted APIs.
        shm_prefix: What the names of its shared-memory regions begin with.
        log_verbose: Triton's verbosity.
        extra: Further options, passed through untouched; a later option wins.
    """
    apis = ",".join(RESTRICTED_APIS)
    return [
        str(toolchain.server),
        f"--model-repository={repository}",
        f"--model-repository={trial}",
        f"--backend-directory={toolchain.backends}",
        "--model-control-mode=explicit",
        f"--model-load-thread-count={LOAD_THREADS}",
        "--disable-auto-complete-config",
        "--exit-on-error=false",
        "--strict-readiness=false",
        f"--exit-timeout-secs={EXIT_TIMEOUT_S}",
        f"--http-address={host}",
        f"--http-port={ports['HTTP']}",
        f"--grpc-address={host}",
        f"--grpc-port={ports['gRPC']}",
        f"--metrics-address={host}",
        f"--metrics-port={ports['metrics']}",
        f"--http-restricted-api={apis}:{HTTP_HEADER}={secret}",
        f"--grpc-restricted-protocol={apis}:{HTTP_HEADER}={secret}",
        f"--backend-config=python,shm-region-prefix-name={shm_prefix}",
        f"--backend-config=python,shm-default-byte-size={SHM_DEFAULT_BYTES}",
        f"--backend-config=python,shm-growth-byte-size={SHM_GROWTH_BYTES}",
        *([f"--backend-config=onnxruntime,library={toolchain.onnxruntime}"] if toolchain.onnxruntime else []),
        f"--log-verbose={log_verbose}",
        *extra,
    ]
