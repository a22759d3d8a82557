"""The training loop that the PyTorch recipes share."""

from __future__ import annotations

from collections.abc import Callable

import torch

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
    report: Callable[[str], None] = lambda _: None,
) -> None:
    """Train in place, in a seeded order, the learning rate rising to `learning_rate` and falling to zero.

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
        report: Called after each part of the work with how far it is.
    """
    steps = epochs * -(-len(inputs) // batch_size)
    descent = optimizer(model.parameters(), lr=learning_rate)  # type: ignore[call-arg]
    schedule = torch.optim.lr_scheduler.OneCycleLR(descent, learning_rate, total_steps=max(steps, 2))
    random = torch.Generator().manual_seed(0)
    before = torch.get_num_threads()
    torch.set_num_threads(threads or before)
    model.train()
    done = 0
    for _ in range(epochs):
        for rows in torch.split(torch.randperm(len(inputs), generator=random), batch_size):
            descent.zero_grad()
            error = loss(model(inputs[rows]), targets[rows])
            error.backward()  # type: ignore[no-untyped-call]
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            descent.step()
            schedule.step()
            done += 1
            if done % max(1, steps // 5) == 0:
                report(f"training: {100 * done // steps} %, loss {error.item():.3f}")
    model.eval()
    torch.set_num_threads(before)
