"""Every error modelport raises, in one tree. Imports nothing.

    ModelportError                  1
    ├── UsageError                  2   wrong options or arguments
    ├── SourceError                10   the model that came in
    │   ├── UnsafeSourceError      11   loading it would run code, or read outside its folder
    │   ├── SourceFormatError      12   truncated, empty, mislabelled or unknown
    │   ├── ConversionError        13   it cannot be traced or written in the wanted format
    │   └── ExampleInputError      14   the example inputs do not fit the model
    ├── VerificationError          20   the artefact's answers are not the source's
    │   ├── BatchAxisError         21   axis 0 is not a batch axis
    │   ├── NotFiniteError         22   NaN or infinity where numbers are needed
    │   └── GateError              23   the version is not worth what its model's gates ask for
    ├── RepositoryError            30   the model repository
    │   ├── InvalidNameError       31   a model, tensor or file name breaks the rule
    │   ├── ModelNotFoundError     32
    │   ├── VersionNotFoundError   33
    │   ├── RepositoryLockedError  34   another writer is at work
    │   └── ManifestError          35   a manifest, evidence or config file cannot be read
    ├── ServerError                40   the Triton server
    │   ├── PortTakenError         41
    │   ├── ServerDiedError        42
    │   ├── ServerTimeoutError     43
    │   └── EnvironmentUnfitError  44   this machine lacks something that is needed
    ├── ClientError                50   a request that got no answer
    │   ├── UnreachableError       51
    │   ├── DeadlineError          52
    │   ├── RequestError           53   refused: wrong name, dtype, shape, or key
    │   └── RemoteError            54   the server failed while answering
    │       └── UnavailableError   55   it cannot answer now, and may in a while
    ├── ProcessError               60   a program that modelport started failed
    └── DataError                  61   data to train or evaluate with is out of reach, damaged, or does not fit

The number is the exit code of the command. 70 is kept for an unexpected error (a defect of modelport).

A message has three parts: what failed, with which value; why; and what to do about it.
"""

from __future__ import annotations

UNEXPECTED_EXIT_CODE = 70


class ModelportError(Exception):
    """Base of all errors.

    Args:
        what: What failed, with the value that made it fail. One sentence.
        why: The likely cause.
        fix: What the reader can do.
        facts: Values for the fields that the leaf class declares, for programs that catch it.
    """

    exit_code: int = 1

    def __init__(self, what: str, *, why: str = "", fix: str = "", **facts: object) -> None:
        super().__init__(what)
        self.what = what
        self.why = why
        self.fix = fix
        for name, value in facts.items():
            if not hasattr(type(self), name):
                raise TypeError(f"{type(self).__name__} has no field {name!r}")
            setattr(self, name, value)

    def __str__(self) -> str:
        lines = [self.what]
        if self.why:
            lines.append(f"  why: {self.why}")
        if self.fix:
            lines.append(f"  do:  {self.fix}")
        return "\n".join(lines)


class UsageError(ModelportError):
    """Options or arguments that cannot be right, all of them listed together."""

    exit_code = 2


class SourceError(ModelportError):
    """The model that came in cannot be used."""

    exit_code = 10


class UnsafeSourceError(SourceError):
    """Loading the file would run code or read files outside its folder."""

    exit_code = 11
    path: str = ""


class SourceFormatError(SourceError):
    """The file is truncated, empty, mislabelled, or of no known kind."""

    exit_code = 12
    path: str = ""


class ConversionError(SourceError):
    """The model cannot be traced, or cannot be written in the wanted format."""

    exit_code = 13
    model: str = ""


class ExampleInputError(SourceError):
    """The example inputs do not fit the model or each other."""

    exit_code = 14
    tensor: str = ""


class VerificationError(ModelportError):
    """The artefact's or the server's answers are not the source's."""

    exit_code = 20
    model: str = ""
    tensor: str = ""
    max_abs_error: float = float("nan")
    tolerance: float = float("nan")


class BatchAxisError(VerificationError):
    """Axis 0 was declared a batch axis and is not one."""

    exit_code = 21


class NotFiniteError(VerificationError):
    """NaN or infinity where the source or the artefact must give numbers."""

    exit_code = 22


class GateError(VerificationError):
    """The version is not worth what its model's gates ask for, or that cannot be told."""

    exit_code = 23
    metric: str = ""


class RepositoryError(ModelportError):
    """The model repository cannot be read or written."""

    exit_code = 30
    path: str = ""


class InvalidNameError(RepositoryError):
    """A model, tensor or file name, or a version number, breaks the rule for it."""

    exit_code = 31
    name: str = ""


class ModelNotFoundError(RepositoryError):
    """The repository or the server has no such model."""

    exit_code = 32
    model: str = ""


class VersionNotFoundError(RepositoryError):
    """The model exists, the version does not. `alias` is what was asked for where that was no number."""

    exit_code = 33
    model: str = ""
    version: int = 0
    alias: str = ""


class RepositoryLockedError(RepositoryError):
    """Another writer holds the repository's lock."""

    exit_code = 34
    holder: str = ""


class ManifestError(RepositoryError):
    """A manifest, evidence or configuration file is missing or cannot be read."""

    exit_code = 35
    path: str = ""


class ServerError(ModelportError):
    """The Triton server cannot do what was asked."""

    exit_code = 40


class PortTakenError(ServerError):
    """A port the server should listen on is in use."""

    exit_code = 41
    port: int = 0


class ServerDiedError(ServerError):
    """The server process ended by itself."""

    exit_code = 42
    returncode: int = 0
    log_tail: str = ""

    @property
    def crashed(self) -> bool:
        """Whether a fault in the process ended it, not somebody who wanted it to end, or its memory."""
        return self.returncode < 0 and self.returncode not in (-2, -9, -15)  # SIGINT, SIGKILL, SIGTERM


class ServerTimeoutError(ServerError):
    """The server did not reach the wanted state in time."""

    exit_code = 43
    timeout_s: float = 0.0
    log_tail: str = ""


class EnvironmentUnfitError(ServerError):
    """This machine or Python environment lacks something that is needed."""

    exit_code = 44


class ClientError(ModelportError):
    """A request that got no answer.

    Attributes:
        retryable: Whether the same request may succeed when it is sent again.
        retry_after_s: Seconds after which the server wants to be asked again, where it said so.
    """

    exit_code = 50
    retryable: bool = False
    retry_after_s: float | None = None


class UnreachableError(ClientError):
    """Nothing answers at the URL, or the connection broke."""

    exit_code = 51
    url: str = ""


class DeadlineError(ClientError):
    """The answer did not come within the deadline."""

    exit_code = 52
    timeout_s: float = 0.0


class RequestError(ClientError):
    """The request is wrong: found before sending, or refused by the server (4xx)."""

    exit_code = 53
    status: int = 0
    tensor: str = ""


class RemoteError(ClientError):
    """The server failed while answering (5xx), or answered with something unreadable."""

    exit_code = 54
    status: int = 0


class UnavailableError(RemoteError):
    """The server cannot answer now, and may in a while.

    It is overloaded or starting, its caller asked too often (429), or a process of the model has ended.
    """

    exit_code = 55


class ProcessError(ModelportError):
    """A program that modelport started ended with an error."""

    exit_code = 60
    command: tuple[str, ...] = ()
    returncode: int = 0
    output_tail: str = ""


class DataError(ModelportError):
    """Data to train or evaluate a model with cannot be fetched or read, or is not what was published or is needed."""

    exit_code = 61
    package: str = ""
