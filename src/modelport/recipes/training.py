"""The training loop that the PyTorch recipes share."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from modelport.errors import DataError

Loss = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


def fit(
    model: torch.nn.Module,
    inputs: torch.Tensor,
    targets: torch.Tensor,
    *,
    loss: Loss = torch.nn.functional.cross_entropy,
    optimizer: type[torch.optim.Optimizer] = torch.optim.AdamW,
    learning_rate: float,
    epochs: int,
    batch_size: int = 64,
    threads: int | None = None,
    checkpoint: Path | None = None,
    save_every_s: float = 5.0,
    report: Callable[[str], None] = lambda _: None,
) -> None:
    """Train in place, in a seeded order, the learning rate rising to `learning_rate` and falling to zero.

    Training that was interrupted and goes on from its checkpoint ends where it would have ended.

    Args:
        model: Left in inference mode.
        inputs: Samples along axis 0.
        targets: As many rows.
        loss: Of the model's answers and the targets.
        optimizer: Its class.
        learning_rate: The highest.
        epochs: How often all samples are seen.
        batch_size: Samples in one step.
        threads: Cores to use, torch's own choice when None. Small recurrent networks are faster with one.
        checkpoint: A file that is written now and then; where it is there, training goes on from it. Network and other
            options must be the same.
        save_every_s: Seconds between two writes.
        report: Called after each part of the work with how far it is.
    """
    steps = epochs * -(-len(inputs) // batch_size)
    descent = optimizer(model.parameters(), lr=learning_rate)  # type: ignore[call-arg]
    schedule = torch.optim.lr_scheduler.OneCycleLR(descent, learning_rate, total_steps=max(steps, 2))
    random = torch.Generator().manual_seed(0)
    before = torch.get_num_threads()
    torch.set_num_threads(threads or before)
    model.train()
    kept = _Checkpoint(checkpoint, save_every_s, model, descent, schedule)
    done = kept.restore()
    number = 0
    for _ in range(epochs):
        for rows in torch.split(torch.randperm(len(inputs), generator=random), batch_size):
            number += 1
            if number <= done:
                continue
            descent.zero_grad()
            error = loss(model(inputs[rows]), targets[rows])
            error.backward()  # type: ignore[no-untyped-call]
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            descent.step()
            schedule.step()
            kept.save(number, last=number == steps)
            if number % max(1, steps // 10) == 0:
                report(f"training: {100 * number // steps} %, loss {error.item():.3f}")
    model.eval()
    torch.set_num_threads(before)


class _Checkpoint:
    """How far training is, in a file."""

    def __init__(self, path: Path | None, every_s: float, *parts: Any) -> None:
        self._path = path
        self._every_s = every_s
        self._parts = parts
        self._saved = time.monotonic()

    def restore(self) -> int:
        """Set all parts to what was saved; gives the number of steps that were done."""
        if self._path is None or not self._path.is_file():
            return 0
        try:
            saved = torch.load(self._path, weights_only=True)
            for part, state in zip(self._parts, saved["parts"], strict=True):
                part.load_state_dict(state)
            torch.set_rng_state(saved["random"])
            return int(saved["steps"])
        except Exception as exc:
            raise DataError(
                f"training cannot go on from {self._path}",
                why=f"{type(exc).__name__}: {str(exc).splitlines()[0] if str(exc) else 'no message'}",
                fix="remove the file: training then begins anew",
            ) from exc

    def save(self, steps: int, *, last: bool) -> None:
        """Save all parts, when it is time."""
        if self._path is None or not (last or time.monotonic() - self._saved >= self._every_s):
            return
        parts = [part.state_dict() for part in self._parts]
        temporary = self._path.with_suffix(".tmp")
        torch.save({"steps": steps, "parts": parts, "random": torch.get_rng_state()}, temporary)
        temporary.replace(self._path)
        self._saved = time.monotonic()
