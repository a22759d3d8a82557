"""A small classifier of texts: embedding, LSTM, and a linear layer on the last step."""

from __future__ import annotations

import torch
from torch import nn

from modelport.recipes.recipe import Options
from modelport.recipes.training import fit


class LastStepLSTM(nn.Module):
    """Word numbers INT64 [batch, time] to logits [batch, classes].

    0 is padding and stands at the end only. The last step is the last word before the padding, so more padding
    changes nothing.
    """

    def __init__(self, words: int, width: int, classes: int = 2) -> None:
        super().__init__()
        self.embedding = nn.Embedding(words, width, padding_idx=0)
        self.lstm = nn.LSTM(width, width, batch_first=True)
        self.dropout = nn.Dropout(0.3)
        self.linear = nn.Linear(width, classes)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        steps, _ = self.lstm(self.dropout(self.embedding(tokens)))
        last = ((tokens != 0).sum(dim=1) - 1).clamp(min=0)
        state = torch.gather(steps, 1, last[:, None, None].expand(-1, 1, steps.shape[2])).squeeze(1)
        return self.linear(self.dropout(state))


class Probabilities(nn.Module):
    """A network with its logits turned into probabilities."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        return torch.softmax(self.network(tokens), dim=-1)


class ProbabilitiesAndBest(nn.Module):
    """Probabilities [batch, classes], and the number of the likeliest class INT64 [batch, 1]."""

    def __init__(self, probabilities: Probabilities) -> None:
        super().__init__()
        self.probabilities = probabilities

    def forward(self, tokens: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        answer = self.probabilities(tokens)
        return answer, answer.argmax(dim=1, keepdim=True)


def trained(data, width: int, options: Options) -> Probabilities:
    """A network trained on `networks.reviews.EncodedReviews`, ready to answer."""
    torch.manual_seed(0)
    network = LastStepLSTM(words=data.numbers, width=width)
    fit(
        network,
        torch.from_numpy(data.train),
        torch.from_numpy(data.train_labels),
        learning_rate=5e-3,
        epochs=options.epochs(6),
        threads=1,
        report=options.report,
    )
    return Probabilities(network).eval().requires_grad_(False)
