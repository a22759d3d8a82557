"""Kind `pruned`: whole channels are taken out of a PyTorch network, and what is left is trained once more.

torch-pruning finds which layers have to lose the same channels (Fang et al., "DepGraph", 2023); those with the smallest
weights go. The network has to be the published one: its weights are loaded, and its answers compared.
"""

from __future__ import annotations

import copy
import warnings
from typing import Any

import torch

from modelport.convert.source_files import load_weights
from modelport.convert.source_torch import from_module
from modelport.convert.types import rows
from modelport.errors import ConversionError, UsageError, VerificationError
from modelport.optimise import trained
from modelport.optimise.origin import recipe_path
from modelport.optimise.prove import declared
from modelport.optimise.types import Made, Task
from modelport.recipes import weights
from modelport.recipes.recipe import Training
from modelport.verify.compare import compare

SUMMARY = "fewer channels, trained once more by its recipe; for PyTorch networks"
SAMPLES = 0
REASON = "channels are gone, and the rest was trained once more"


def make(task: Task) -> Made:
    """Load the version's weights, prune, train, export."""
    _check(task.options.ratio)
    training = trained.training_of(task)
    network = _published(task, training)
    epochs = task.options.epochs or training.epochs
    before = sum(parameter.numel() for parameter in network.parameters())
    prune(network, torch.from_numpy(training.samples[:1]), task.options.ratio, name=task.origin.manifest.spec.name)
    with trained.progress_folder(task, "pruned", ratio=task.options.ratio, epochs=epochs) as progress:
        trained.train(task, training.fit, network, training.samples, training.targets, progress=progress, epochs=epochs)
    facts = {
        "ratio": str(task.options.ratio),
        "epochs": str(epochs),
        "training_samples": str(len(training.samples)),
        "parameters_before": str(before),
    }
    return trained.finished(task, network, facts=facts, progress=progress, reason=REASON)


def prune(network: torch.nn.Module, sample: torch.Tensor, ratio: float, *, name: str) -> None:
    """Take a share of the channels out of every layer but those that give the answer, in place.

    Args:
        network: Any network that torch-pruning can trace.
        sample: One row of its input.
        ratio: The share, above 0 and below 1.
        name: Of the model, for messages.

    Raises:
        ConversionError: It cannot be traced, nothing could be taken out, or its answers have another shape now.
        UsageError: torch-pruning is not installed.
    """
    try:
        import torch_pruning
    except ImportError as exc:
        raise UsageError(
            "networks cannot be pruned here",
            why="torch-pruning is not installed",
            fix="pip install 'modelport[optimise]'",
        ) from exc
    network.eval()
    shape, last = _answer(network, sample)
    before = sum(parameter.numel() for parameter in network.parameters())
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of parameters in no layer: they stay as they are
            torch_pruning.pruner.BasePruner(
                network,
                sample,
                importance=torch_pruning.importance.GroupMagnitudeImportance(p=2),
                pruning_ratio=ratio,
                ignored_layers=last,
            ).step()
        after = sum(parameter.numel() for parameter in network.parameters())
        fits = _answer(network, sample)[0] == shape
    except Exception as exc:
        raise _impossible(name, f"{type(exc).__name__}: {str(exc).splitlines()[0] if str(exc) else ''}") from exc
    if after >= before or not fits:
        raise _impossible(
            name, "its answers would have another shape" if not fits else "no layer has channels to spare"
        )


def _published(task: Task, training: Training) -> torch.nn.Module:
    """The recipe's network with the version's weights; they give the version's golden answers."""
    spec, version = task.origin.manifest.spec, task.origin.manifest.version
    path = weights.path_of(task.repository, spec.name, version)
    if not path.is_file():
        raise UsageError(
            f"the weights that {task.origin.reference} was built with are not there",
            why="an ONNX graph cannot be trained on; a recipe that says how it trains keeps them when it builds",
            fix=f"build the model again with its recipe: python {recipe_path(task.origin, task.options)}",
        )
    network: torch.nn.Module = training.network()
    load_weights(network, path)
    golden, tolerances = task.origin.golden, task.origin.evidence.tolerances
    source = from_module(network, declared(task.origin, golden.inputs))
    answers = source.run(golden.inputs)
    compared = compare(golden.outputs, answers, tolerances, batched=task.origin.evidence.batched)
    wrong = [f"{output}: {one.max_abs_error:.3g}" for output, one in compared.items() if not one.ok]
    if wrong:
        raise VerificationError(
            f"the recipe's network is not what {task.origin.reference} was built from",
            why=f"on {rows(golden.inputs)} golden inputs it is off by {', '.join(wrong)}",
            fix=f"build the model again with its recipe: python {recipe_path(task.origin, task.options)}",
            model=spec.name,
        )
    return copy.deepcopy(network)


def _answer(network: torch.nn.Module, sample: torch.Tensor) -> tuple[torch.Size, list[torch.nn.Module]]:
    """The shape of the answer, and the layers that have to keep their channels: the one with weights that ran last."""
    ran: list[torch.nn.Module] = []
    kinds = (torch.nn.Linear, torch.nn.modules.conv._ConvNd, torch.nn.LSTM)
    hooks = [
        module.register_forward_hook(lambda one, _in, _out: ran.append(one))
        for module in network.modules()
        if isinstance(module, kinds)
    ]
    try:
        with torch.no_grad():
            answer: Any = network(sample)
    finally:
        for hook in hooks:
            hook.remove()
    return answer.shape, ran[-1:]


def _impossible(name: str, why: str) -> ConversionError:
    return ConversionError(
        f"{name!r} cannot be pruned",
        why=why,
        fix="use another --ratio, or a kind that leaves the graph as it is: fp16, int8, int8-dynamic",
        model=name,
    )


def _check(ratio: float) -> None:
    if not 0 < ratio < 1:
        raise UsageError(
            f"ratio {ratio} is not above 0 and below 1",
            why="it is the share of channels that is taken out of each layer",
            fix="for example --ratio 0.5",
        )
