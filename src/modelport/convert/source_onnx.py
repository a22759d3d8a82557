"""Source: an ONNX file somebody else exported. Its reference is itself, in ONNX Runtime without optimisation."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx

from modelport.convert.inputs import InputDeclaration
from modelport.convert.runtime import onnxruntime
from modelport.convert.types import Array, Arrays, Declaration
from modelport.errors import BatchAxisError, ConversionError, ExampleInputError, SourceFormatError, UsageError
from modelport.spec import DTYPES, dtype_of


class OnnxSource:
    """An ONNX model in memory, its external data read in."""

    def __init__(self, model: onnx.ModelProto, declaration: Declaration) -> None:
        opset = next((o.version for o in model.opset_import if o.domain in ("", "ai.onnx")), 0)
        self.framework = f"onnx opset {opset}"
        self.model = model
        self._own_outputs = [output.name for output in model.graph.output]
        self.output_names = _output_names(model, declaration)
        wanted = [i.name for i in _inputs(model)]
        if sorted(wanted) != sorted(declaration.example_inputs):
            raise ExampleInputError(
                f"the example inputs of {declaration.name!r} are named {sorted(declaration.example_inputs)}",
                why=f"the ONNX file's inputs are named {wanted}",
                fix="use the file's names",
            )
        options = onnxruntime.SessionOptions()
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        options.log_severity_level = 4
        try:
            self._session = onnxruntime.InferenceSession(
                model.SerializeToString(), options, providers=["CPUExecutionProvider"]
            )
        except Exception as exc:
            raise SourceFormatError(
                f"ONNX Runtime does not load the model of {declaration.name!r}",
                why=str(exc).splitlines()[0],
                fix="check the file with onnx.checker",
            ) from exc
        self.run(declaration.example_inputs)

    def run(self, inputs: Mapping[str, Array]) -> Arrays:
        """The file's answer, each operator as it stands in the file."""
        try:
            answers = self._session.run(self._own_outputs, dict(inputs))
        except Exception as exc:
            shapes = {name: array.shape for name, array in inputs.items()}
            raise ExampleInputError(
                f"the ONNX model does not run on inputs of shapes {shapes}",
                why=str(exc).splitlines()[0],
                fix="check shapes and types of the example inputs",
            ) from exc
        return dict(zip(self.output_names, (np.asarray(a) for a in answers), strict=True))

    def run_double(self, inputs: Mapping[str, Array]) -> Arrays | None:
        """None: an ONNX graph states its types, and a float64 one would be another graph."""
        return None

    def named(self, declaration: Declaration) -> onnx.ModelProto:
        """A copy with the declared output names, checked for a free batch axis.

        Raises:
            BatchAxisError: The batch axis was declared and the file fixes its size.
        """
        model = onnx.ModelProto()
        model.CopyFrom(self.model)
        for value in _inputs(model):
            dims = value.type.tensor_type.shape.dim
            if declaration.batched and (not dims or dims[0].HasField("dim_value")):
                raise BatchAxisError(
                    f"axis 0 of {value.name!r} in {declaration.name!r} is no batch axis",
                    why=f"the ONNX file fixes its size to {dims[0].dim_value}" if dims else "it is a scalar",
                    fix="export the file again with a dynamic batch axis, or use --max-batch-size 0",
                    model=declaration.name,
                )
        for own, new in zip(self._own_outputs, self.output_names, strict=True):
            if own != new:
                _rename_output(model.graph, own, new)
        return model


def load(path: Path) -> onnx.ModelProto:
    """Read a checked ONNX file with its external data.

    Raises:
        SourceFormatError: It is no valid ONNX model.
    """
    try:
        model = onnx.load(str(path))
        onnx.checker.check_model(model)
    except Exception as exc:
        text = str(exc).strip()
        raise SourceFormatError(
            f"{path.name} is no valid ONNX model",
            why=text.splitlines()[0] if text else type(exc).__name__,
            fix="check that the file was copied whole, and with onnx.checker",
            path=str(path),
        ) from exc
    return model


def _output_names(model: onnx.ModelProto, declaration: Declaration) -> tuple[str, ...]:
    own = tuple(output.name for output in model.graph.output)
    given = declaration.output_names or own
    if len(given) != len(own):
        raise UsageError(
            f"{len(given)} output names were given for {declaration.name!r}",
            why=f"the file has {len(own)} outputs: {', '.join(own)}",
            fix="give as many names as there are outputs, in their order",
        )
    inside = _names_in(model.graph)
    clash = [new for old, new in zip(own, given, strict=True) if new != old and new in inside]
    if clash or len(set(given)) < len(given):
        raise UsageError(
            f"the outputs of {declaration.name!r} cannot be named {', '.join(given)}",
            why=f"the file has other tensors named {', '.join(clash)}" if clash else "they are not unique",
            fix="choose other names",
        )
    return given


def _names_in(graph: onnx.GraphProto) -> set[str]:
    """The names of all tensors at the top level of a graph."""
    values = [*graph.input, *graph.initializer]
    return {value.name for value in values} | {name for node in graph.node for name in node.output}


def _inputs(model: onnx.ModelProto) -> list[onnx.ValueInfoProto]:
    constants = {tensor.name for tensor in model.graph.initializer}
    return [value for value in model.graph.input if value.name not in constants]


def declared(model: onnx.ModelProto) -> tuple[InputDeclaration, ...]:
    """What the graph says of its inputs. A free axis 0 of every input is taken for the batch axis."""
    values = _inputs(model)
    free = [
        bool(v.type.tensor_type.shape.dim) and not v.type.tensor_type.shape.dim[0].HasField("dim_value") for v in values
    ]
    found: list[InputDeclaration] = []
    for value in values:
        sizes: list[int | str] = []
        for axis, dim in enumerate(value.type.tensor_type.shape.dim):
            if axis == 0 and all(free):
                sizes.append("batch")
            else:
                sizes.append(dim.dim_value if dim.HasField("dim_value") else dim.dim_param or f"axis_{axis}")
        number = value.type.tensor_type.elem_type
        if number not in {known.onnx for known in DTYPES}:
            kind = value.type.WhichOneof("value")
            word = onnx.TensorProto.DataType.Name(number) if kind == "tensor_type" else kind
            raise ConversionError(
                f"input {value.name!r} is of type {word}, which cannot be served",
                why="Triton's protocol has no such type, or numpy cannot hold it",
                fix="cast inside the graph, and let the input be a tensor of " + ", ".join(d.numpy for d in DTYPES),
            )
        dtype = dtype_of(number)
        found.append(InputDeclaration(name=value.name, dtype=dtype, sizes=tuple(sizes)))
    return tuple(found)


def _rename_output(graph: onnx.GraphProto, old: str, new: str) -> None:
    """Add an Identity that carries the new name; renaming in place would have to follow every subgraph."""
    graph.node.append(onnx.helper.make_node("Identity", [old], [new], name=f"name_{new}"))
    for output in graph.output:
        if output.name == old:
            output.name = new
