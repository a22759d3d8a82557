"""Example inputs: read from declarations, checked, and multiplied where a proof needs more of them.

numpy only. `image:float32:batch,28,28,1` declares a tensor; sizes that are words vary, and `batch` in front is
the batch axis.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from modelport.convert.types import Array, Arrays, Declaration, rows, take
from modelport.errors import ExampleInputError, UsageError
from modelport.spec import DType, TensorSpec, dtype_of

MADE_UP_SIZE = 8  # for a varying axis of which no example is given
MAX_MADE_UP_ELEMENTS = 1 << 27  # of one input; a gigabyte while they are made
BATCH = "batch"


@dataclass(frozen=True, kw_only=True)
class InputDeclaration:
    """One `NAME:DTYPE:SIZES` of the command line.

    Attributes:
        name: Tensor name.
        dtype: Element type.
        sizes: A number, or a word where the size varies; `batch` in front for the batch axis.
    """

    name: str
    dtype: DType
    sizes: tuple[int | str, ...]

    @property
    def batched(self) -> bool:
        """True when the first size is `batch`."""
        return bool(self.sizes) and self.sizes[0] == BATCH

    def dynamic_axes(self, *, batched: bool) -> dict[int, str]:
        """Axis to name, for the sizes that are words; without axis 0 when the model is used with a batch axis."""
        start = 1 if batched else 0
        return {i: s for i, s in enumerate(self.sizes) if i >= start and isinstance(s, str)}


def parse_declarations(texts: Sequence[str]) -> tuple[InputDeclaration, ...]:
    """Read `NAME:DTYPE:SIZES` texts, all of them, and report all that is wrong at once.

    Raises:
        UsageError: One or more cannot be read, a name comes twice, or only some have a batch axis.
    """
    found: list[InputDeclaration] = []
    wrong: list[str] = []
    for text in texts:
        try:
            found.append(_parse_one(text))
        except (ValueError, UsageError) as exc:
            wrong.append(f"{text!r}: {exc.what if isinstance(exc, UsageError) else exc}")
    names = [d.name for d in found]
    wrong += [f"{name!r} is declared twice" for name in sorted(set(names)) if names.count(name) > 1]
    if found and len({d.batched for d in found}) > 1:
        wrong.append("some inputs have 'batch' as first size and some have not")
    if wrong:
        raise UsageError(
            "the --input options cannot be used: " + "; ".join(wrong),
            why="an input is declared as NAME:DTYPE:SIZES, 'batch' being the first size of every input or of none",
            fix="for example --input image:float32:batch,28,28,1 or --input tokens:int64:batch,time",
        )
    return tuple(found)


def _parse_one(text: str) -> InputDeclaration:
    name, sep, rest = text.partition(":")
    dtype, sep2, sizes = rest.partition(":")
    if not (sep and sep2 and name and dtype):
        raise ValueError("not of the form NAME:DTYPE:SIZES")
    parsed: list[int | str] = []
    for size in (s.strip() for s in sizes.split(",") if s.strip()):
        if size.lstrip("-").isdigit():
            if int(size) < 1:
                raise ValueError(f"size {size} is not 1 or more; write a word such as 'time' where it varies")
            parsed.append(int(size))
        elif size.isidentifier():
            parsed.append(size)
        else:
            raise ValueError(f"size {size!r} is neither a number nor a word")
    if BATCH in parsed[1:]:
        raise ValueError("'batch' can only be the first size")
    TensorSpec(name=name, dtype=dtype_of(dtype), dims=())
    return InputDeclaration(name=name, dtype=dtype_of(dtype), sizes=tuple(parsed))


def made_up(declarations: Sequence[InputDeclaration], *, count: int = 4, seed: int = 0) -> Arrays:
    """Random example inputs for declarations: floats of mean 0 and deviation 1, whole numbers 0 or 1, words.

    Args:
        declarations: What the inputs look like.
        count: Rows, for inputs that have a batch axis.
        seed: Seed of the random numbers.

    Raises:
        ExampleInputError: An input is too large to be made up.
    """
    random = np.random.default_rng(seed)
    sizes: dict[str, int] = {}
    for declaration in declarations:
        for axis in declaration.dynamic_axes(batched=declaration.batched).values():
            sizes.setdefault(axis, MADE_UP_SIZE + len(sizes))
    sizes[BATCH] = count
    made: Arrays = {}
    for d in declarations:
        shape = tuple(sizes[s] if isinstance(s, str) else s for s in d.sizes)
        if math.prod(shape) > MAX_MADE_UP_ELEMENTS:
            raise ExampleInputError(
                f"input {d.name!r} of shape {shape} is too large to be made up",
                why=f"at most {MAX_MADE_UP_ELEMENTS} elements are",
                fix="check its sizes; if they are right, give real samples (--samples, example_inputs=)",
                tensor=d.name,
            )
        if d.dtype.triton == "BYTES":
            made[d.name] = random.choice(np.array(["a", "example", "of text", ""], dtype=object), size=shape)
        elif d.dtype.is_float:
            made[d.name] = random.standard_normal(shape).astype(d.dtype.np)
        else:
            made[d.name] = random.integers(0, 2, size=shape).astype(d.dtype.np)
    return made


def check_examples(declaration: Declaration) -> None:
    """Check that the example inputs fit each other and the declaration, all of them, before any work.

    Raises:
        ExampleInputError: No input, an empty one, rows that do not match, NaN, an axis that does not exist, or
            axes of one name with two sizes.
    """
    inputs = declaration.example_inputs
    problems = [] if inputs else ["there is no input at all"]
    problems += [
        f"{name!r} is a {type(array).__name__}, not a numpy array"
        for name, array in inputs.items()
        if not isinstance(array, np.ndarray)
    ]
    if not problems:
        for name, array in inputs.items():
            TensorSpec(name=name, dtype=dtype_of(array), dims=())
            problems += _content_problems(name, array, declaration.batched)
        if declaration.batched and len({a.shape[:1] for a in inputs.values()}) > 1:
            counts = ", ".join(f"{name!r} has {a.shape[0] if a.ndim else 'no'}" for name, a in inputs.items())
            problems.append(f"the inputs have different numbers of rows: {counts}")
        problems += _axis_problems(declaration) + _pad_problems(declaration)
    if problems:
        raise ExampleInputError(
            f"the example inputs of {declaration.name!r} cannot be used: " + "; ".join(problems),
            why="every input is given as an array with the samples along axis 0, as many rows in each",
            fix="give arrays such as {'image': array of shape (rows, 28, 28, 1)}",
        )


def _content_problems(name: str, array: Array, batched: bool) -> list[str]:
    if array.size == 0 or (batched and array.ndim == 0):
        return [f"{name!r} has shape {array.shape}: no sample in it"]
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        return [f"{name!r} holds NaN or infinity"]
    odd = {type(e).__name__ for e in array.ravel() if not isinstance(e, str)} if array.dtype.kind == "O" else set()
    return [f"{name!r} holds {', '.join(sorted(odd))} where an array of objects holds strings"] if odd else []


def with_texts(inputs: Mapping[str, Array]) -> Arrays:
    """The arrays, strings of every numpy kind and UTF-8 bytes as Python strings, everything else as it is."""
    return {
        name: _texts(array) if isinstance(array, np.ndarray) and array.dtype.kind in "SUO" else array
        for name, array in inputs.items()
    }


def _texts(array: Array) -> Array:
    made = np.empty(array.shape, dtype=object)
    for place, element in np.ndenumerate(array.astype(object)):
        try:
            made[place] = element.decode() if isinstance(element, bytes) else element
        except UnicodeDecodeError:
            made[place] = element
    return made


def _axis_problems(declaration: Declaration) -> list[str]:
    problems: list[str] = []
    sizes: dict[str, int] = {}
    for name, axes in declaration.dynamic_axes.items():
        if name not in declaration.example_inputs:
            problems.append(f"dynamic_axes names {name!r}, which is no input")
            continue
        shape = declaration.example_inputs[name].shape
        for axis, label in axes.items():
            if not (1 if declaration.batched else 0) <= axis < len(shape):
                problems.append(f"{name!r} of shape {shape} has no axis {axis} beside the batch")
            elif sizes.setdefault(label, shape[axis]) != shape[axis]:
                problems.append(f"axis {label!r} has size {sizes[label]} in one input and {shape[axis]} in {name!r}")
    return problems


def _pad_problems(declaration: Declaration) -> list[str]:
    if not declaration.pad:
        return []
    varying = {name for name, axes in declaration.dynamic_axes.items() if axes}
    problems = [] if declaration.batched else ["values to fill up with are of use with a batch axis only"]
    problems += [f"pad names {name!r}, which has no axis that varies" for name in sorted({*declaration.pad} - varying)]
    problems += [f"{name!r} varies too and has no value in pad" for name in sorted(varying - set(declaration.pad))]
    for name, value in declaration.pad.items():
        array = declaration.example_inputs.get(name)
        if array is not None and not _holds(array.dtype, value):
            problems.append(f"{name!r} is of type {array.dtype} and cannot be filled up with {value}")
    return problems


def _holds(dtype: np.dtype[Any], value: float) -> bool:
    """Whether an element type can be filled up with this number; the backend writes no half floats and no texts."""
    if not math.isfinite(value):
        return False
    if dtype.kind in "iu":
        limits = np.iinfo(dtype)
        return value == int(value) and int(limits.min) <= value <= int(limits.max)
    return dtype in (np.float32, np.float64)


def check_declared(declared: Sequence[InputDeclaration], examples: Mapping[str, Array]) -> None:
    """Check that example inputs are what the declarations say: names, types, fixed sizes.

    Raises:
        ExampleInputError: Naming every difference.
    """
    problems: list[str] = []
    if sorted(d.name for d in declared) != sorted(examples):
        problems.append(f"the inputs {sorted(d.name for d in declared)} are declared, {sorted(examples)} are given")
    for d in (d for d in declared if d.name in examples):
        array = examples[d.name]
        sizes = [size if isinstance(size, int) else None for size in d.sizes]
        fits = len(sizes) == array.ndim and all(s in (None, got) for s, got in zip(sizes, array.shape, strict=True))
        if not fits or dtype_of(array) != d.dtype:
            wanted = f"{d.dtype.numpy}[{','.join(map(str, d.sizes))}]"
            problems.append(f"{d.name!r} is declared as {wanted} and given as {array.dtype}{list(array.shape)}")
    if problems:
        raise ExampleInputError(
            "the example inputs are not what was declared: " + "; ".join(problems),
            why="samples and --input options describe the same tensors and must agree",
            fix="leave out the --input options, or correct them",
        )


def more_rows(inputs: Mapping[str, Array], count: int, *, seed: int = 0) -> Arrays:
    """At least `count` rows that differ in front: given ones, then random mixtures that stay within what was given.

    Whole numbers and strings are drawn from the values that occur at the same place in other rows (a column of ids
    keeps to its own range), from all values of the row where only one is given. Floats are the given rows, changed
    by up to a tenth of their spread.
    """
    order = different_rows(inputs, count)
    if len(order) == count:
        others = sorted(set(range(rows(inputs))) - set(order))
        return take(inputs, order + others)
    inputs = take(inputs, order)
    have = rows(inputs)
    made: Arrays = {}
    for name, array in inputs.items():
        random = np.random.default_rng([seed, zlib.crc32(name.encode())])
        extra = array[random.integers(0, have, size=count - have)].copy()
        if array.dtype.kind == "f":
            spread = float(array.std(dtype=np.float64)) or float(np.abs(array).max(initial=0)) or 1.0
            noise = random.uniform(-0.1, 0.1, size=extra.shape) * spread
            extra = (
                np.clip(extra + noise, array.min(), array.max()).astype(array.dtype)
                if have > 1
                else (extra + noise).astype(array.dtype)
            )
        elif have > 1:
            extra = np.take_along_axis(array, random.integers(0, have, size=extra.shape), axis=0)
        else:
            extra = random.choice(array.ravel(), extra.shape)
        made[name] = np.concatenate([array, extra.astype(array.dtype)])
    return made


def different_rows(inputs: Mapping[str, Array], count: int) -> list[int]:
    """The numbers of the first `count` rows that differ from each other; fewer where there are not so many."""
    seen: set[tuple[object, ...]] = set()
    found: list[int] = []
    for row in range(rows(inputs)):
        key = tuple(tuple(a[row].ravel()) if a.dtype.kind == "O" else a[row].tobytes() for a in inputs.values())
        if key not in seen:
            seen.add(key)
            found.append(row)
        if len(found) == count:
            break
    return found


def resized(declaration: Declaration, inputs: Mapping[str, Array], change: int) -> Arrays:
    """The inputs with every varying axis longer (or shorter) by `change`, values repeated from its start."""
    made = dict(inputs)
    for name, axes in declaration.dynamic_axes.items():
        for axis in axes:
            size = max(1, made[name].shape[axis] + change)
            made[name] = np.take(made[name], np.arange(size), axis=axis, mode="wrap")
    return made


def first_rows(inputs: Mapping[str, Array], count: int) -> Arrays:
    """The first `count` rows of every input."""
    return take(inputs, np.arange(min(count, rows(inputs))))
