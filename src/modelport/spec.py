"""What a model's tensors look like: `DType`, `TensorSpec`, `ModelSpec`.

The one table that relates element types of numpy, Triton, ONNX and torch is here. The frameworks are named by strings
and numbers: the client runs where torch is not, and what only reads names and manifests does not wait for numpy.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from modelport.errors import InvalidNameError, UsageError

if TYPE_CHECKING:
    import numpy as np

MODEL_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,62}")
TENSOR_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.:/-]{0,127}")
MAX_VERSION = 2**31 - 1
_WORD = re.compile(r"[A-Za-z][A-Za-z0-9_.-]{0,31}")
TRIAL_SUFFIX = ".trial"  # a version is tried in the running server under its model's name with this behind it
VARIES = -1  # a dimension whose size differs from request to request


@dataclass(frozen=True, kw_only=True)
class DType:
    """One element type, as each framework calls it.

    Attributes:
        triton: Name in Triton's protocol, such as `FP32`; in `config.pbtxt` it is `TYPE_FP32`.
        numpy: numpy dtype name; `object` for strings.
        onnx: Value of `onnx.TensorProto.DataType`.
        torch: Attribute of the `torch` module, or empty where torch has no such type.
    """

    triton: str
    numpy: str
    onnx: int
    torch: str

    @property
    def config(self) -> str:
        """Name in `config.pbtxt`. The protocol says BYTES where the configuration says TYPE_STRING."""
        return "TYPE_STRING" if self.triton == "BYTES" else f"TYPE_{self.triton}"

    @property
    def np(self) -> np.dtype[Any]:
        """The numpy dtype."""
        import numpy as np

        return np.dtype(self.numpy)

    @property
    def is_float(self) -> bool:
        """True for FP16, FP32 and FP64."""
        return self.np.kind == "f"

    def __str__(self) -> str:
        return self.triton


DTYPES: tuple[DType, ...] = (
    DType(triton="BOOL", numpy="bool", onnx=9, torch="bool"),
    DType(triton="UINT8", numpy="uint8", onnx=2, torch="uint8"),
    DType(triton="UINT16", numpy="uint16", onnx=4, torch="uint16"),
    DType(triton="UINT32", numpy="uint32", onnx=12, torch="uint32"),
    DType(triton="UINT64", numpy="uint64", onnx=13, torch="uint64"),
    DType(triton="INT8", numpy="int8", onnx=3, torch="int8"),
    DType(triton="INT16", numpy="int16", onnx=5, torch="int16"),
    DType(triton="INT32", numpy="int32", onnx=6, torch="int32"),
    DType(triton="INT64", numpy="int64", onnx=7, torch="int64"),
    DType(triton="FP16", numpy="float16", onnx=10, torch="float16"),
    DType(triton="FP32", numpy="float32", onnx=1, torch="float32"),
    DType(triton="FP64", numpy="float64", onnx=11, torch="float64"),
    DType(triton="BYTES", numpy="object", onnx=8, torch=""),
)
_BY_WORD = {
    **{known.numpy: known for known in DTYPES},
    **{known.triton: known for known in DTYPES},
    "STRING": DTYPES[-1],
    "STR": DTYPES[-1],
}


def dtype_of(value: object) -> DType:
    """The `DType` for any framework's word for it.

    Args:
        value: A `DType`; a numpy dtype or array; a Triton name (`FP32`, `TYPE_FP32`, `TYPE_STRING`); a
            numpy or torch name (`float32`, `torch.float32`, `string`, `bytes`); or an ONNX number.

    Raises:
        UsageError: Triton serves no such type. bfloat16 is one: keep it inside the graph.
    """
    if isinstance(value, DType):
        return value
    if isinstance(value, int):
        for known in DTYPES:
            if known.onnx == value:
                return known
    word = (value if isinstance(value, str) else _word(value)).removeprefix("torch.").removeprefix("TYPE_")
    found = _BY_WORD.get(word) or _BY_WORD.get(word.upper())
    if found:
        return found
    raise UsageError(
        f"element type {value if isinstance(value, str) else word} cannot be served",
        why="Triton's protocol has no such type, or numpy cannot hold it",
        fix="use one of " + ", ".join(f"{d.numpy} ({d.triton})" for d in DTYPES[:-1]) + ", string (BYTES)",
    )


@dataclass(frozen=True, kw_only=True)
class TensorSpec:
    """One input or output of a model.

    Attributes:
        name: What the caller calls it, such as `image` or `probabilities`.
        dtype: Element type.
        dims: Shape of one sample, without the batch axis; -1 where the size may differ.
        pad: Value that fills sizes that differ up to the longest without changing an answer; None where none is known.
    """

    name: str
    dtype: DType
    dims: tuple[int, ...]
    pad: float | None = field(default=None, compare=False)

    def __post_init__(self) -> None:
        if not TENSOR_NAME.fullmatch(self.name):
            raise InvalidNameError(
                f"tensor name {self.name!r} cannot be used",
                why="it must start with a letter or _ and hold only letters, digits and _ . : / -",
                fix="choose another name, such as 'image' or 'probabilities'",
                name=self.name,
            )

    def accepts(self, shape: tuple[int, ...]) -> bool:
        """Whether one sample of this shape fits."""
        return len(shape) == len(self.dims) and all(
            want in (VARIES, got) for want, got in zip(self.dims, shape, strict=True)
        )

    def __str__(self) -> str:
        dims = ",".join("?" if d == VARIES else str(d) for d in self.dims)
        return f"{self.name}: {self.dtype}[{dims}]"


@dataclass(frozen=True, kw_only=True)
class ModelSpec:
    """A model as a caller sees it.

    Attributes:
        name: Model name, also the folder's name.
        inputs: In the order in which the model takes them.
        outputs: In the order in which the model gives them.
        max_batch_size: Largest batch; 0 when the tensors have no batch axis.
    """

    name: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    max_batch_size: int

    @property
    def batched(self) -> bool:
        """True when every tensor has a batch axis in front of `dims`."""
        return self.max_batch_size > 0


def _word(value: object) -> str:
    """What a framework calls an element type."""
    import numpy as np

    if isinstance(value, np.ndarray):
        value = value.dtype
    if isinstance(value, np.dtype):
        return "BYTES" if value.kind in "SUO" else value.name
    return str(value)


def check_model_name(name: str) -> str:
    """Return `name` when it is a model name; Triton hands names to a shell, so the rule is strict.

    Raises:
        InvalidNameError: It is not 1 to 63 letters, digits, `_`, `.`, `-`, it holds `..`, or it ends in `.trial`.
    """
    if MODEL_NAME.fullmatch(name) and ".." not in name and not name.endswith(TRIAL_SUFFIX):
        return name
    shown = name if len(name) <= 70 else name[:67] + "..."
    if name.endswith(TRIAL_SUFFIX):
        raise InvalidNameError(
            f"model name {shown!r} cannot be used",
            why=f"names that end in {TRIAL_SUFFIX!r} are kept for versions that are being tried before they serve",
            fix=f"choose a name without {TRIAL_SUFFIX!r} at its end",
            name=name,
        )
    model, slash, version = name.partition("/")
    if slash and MODEL_NAME.fullmatch(model) and version.isdecimal():
        raise InvalidNameError(
            f"{shown!r} names a version, and here it is a model that is asked for",
            why="what is said here holds for all its versions, or the version is said in another place",
            fix=f"write {model!r} alone",
            name=name,
        )
    raise InvalidNameError(
        f"model name {shown!r} cannot be used",
        why="a name is 1 to 63 of A-Z a-z 0-9 _ . -, starts with a letter or digit, and has no '..'",
        fix="choose a name such as 'digits_cnn'",
        name=name,
    )


def parse_version(text: str | int) -> int:
    """A version number from a folder's or an argument's text.

    Raises:
        InvalidNameError: It is not a whole number from 1 to 2147483647 without a leading zero.
    """
    word = str(text)
    if re.fullmatch(r"[1-9][0-9]{0,9}", word) and int(word) <= MAX_VERSION:
        return int(word)
    shown = word if len(word) <= 40 else word[:37] + "..."
    raise InvalidNameError(
        f"version {shown!r} cannot be used",
        why=f"a version is a whole number from 1 to {MAX_VERSION}, without a leading zero or anything after it",
        fix="name an existing version; 'modelport list' shows them",
        name=word,
    )


def check_word(word: str) -> str:
    """An alias or a tag: a letter, then letters, digits and `_.-`, 32 at most.

    Raises:
        InvalidNameError: It breaks this rule.
    """
    if isinstance(word, str) and _WORD.fullmatch(word):
        return word
    raise InvalidNameError(
        f"{word!r} cannot be an alias or a tag",
        why="these are a letter, then letters, digits, '_', '.' and '-', 32 at most",
        fix="choose another word, such as 'stable'",
        name=str(word),
    )


def parse_target(text: str | int) -> int | str:
    """What a caller names in place of a version's number: the number, or an alias such as `stable`.

    Raises:
        InvalidNameError: It is neither.
    """
    return check_word(text) if isinstance(text, str) and text[:1].isalpha() else parse_version(text)
