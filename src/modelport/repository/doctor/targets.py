"""What the official containers can do, as far as a repository can be too new or too old for them.

Read in Triton's `build.py` of the release branches (what a container is built with), in `model_config.proto` (fields),
and in the history of `core` (bugs). What ONNX Runtime accepts was measured: models with rising operator sets and IR
versions, given to the Python packages of the same ONNX Runtime version.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from modelport.errors import UsageError

DEFAULT_TARGET = "26.09"

# build.py, `enable_all` of r24.10 and r26.08. The TensorFlow backend went with 25.03.
_BACKENDS = frozenset(
    [
        "dali",
        "ensemble",
        "fil",
        "identity",
        "onnxruntime",
        "openvino",
        "python",
        "pytorch",
        "repeat",
        "square",
        "tensorrt",
        "tensorrtllm",
        "vllm",
    ]
)
# Backends of the embedded server: Triton's own, and those that modelport adds.
EMBEDDED_BACKENDS = frozenset({"python", "onnxruntime", "pytorch", "ensemble"})


@dataclass(frozen=True, kw_only=True)
class Target:
    """One container.

    Attributes:
        name: Its tag, such as `26.09`.
        triton: Version of Triton in it.
        onnxruntime: Version of ONNX Runtime in it.
        max_opsets: Operator set's domain to the newest version that ONNX Runtime takes.
        max_ir: Newest IR version that it takes.
        backends: What it serves; vLLM and TensorRT-LLM are in containers of their own of the same tag.
        unknown_fields: Fields of a configuration that it refuses, from the outermost in.
        cache_leaks: Whether the response cache loses memory.
        aoti: Whether it serves torch.export programs that were compiled ahead of time.
        full_step_hangs: Whether an ensemble hangs when the queue of a step is full.
    """

    name: str
    triton: str
    onnxruntime: str
    max_opsets: Mapping[str, int]
    max_ir: int
    backends: frozenset[str]
    unknown_fields: tuple[tuple[str, ...], ...] = ()
    cache_leaks: bool = False
    aoti: bool = False
    full_step_hangs: bool = False


TARGETS: tuple[Target, ...] = (
    Target(
        name="24.10",
        triton="2.51.0",
        onnxruntime="1.19.2",  # build.py, branch r24.10
        max_opsets={"": 21, "ai.onnx": 21, "ai.onnx.ml": 5},
        max_ir=10,
        backends=_BACKENDS | {"tensorflow"},
        # model_config.proto, differences between r24.10 and the main line
        unknown_fields=(("model_metrics",), ("ensemble_scheduling", "max_inflight_requests")),
        cache_leaks=True,  # core, pull request 449
        full_step_hangs=True,  # core, pull request 466
    ),
    Target(
        name="26.09",
        triton="2.73.0",
        onnxruntime="1.28.0",  # build.py, branch r26.08; 1.27.0 takes the same
        max_opsets={"": 26, "ai.onnx": 26, "ai.onnx.ml": 5},
        max_ir=13,
        backends=_BACKENDS,
        aoti=True,
    ),
)


def target_of(name: str) -> Target:
    """The target of this name.

    Raises:
        UsageError: There is none.
    """
    for target in TARGETS:
        if target.name == name:
            return target
    raise UsageError(
        f"there is no target {name!r}",
        why="a target is a Triton container whose abilities are known here",
        fix="choose " + " or ".join(target.name for target in TARGETS),
    )
