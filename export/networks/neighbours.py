"""Recommendation by people with similar taste, all of it inside the graph."""

from __future__ import annotations

import torch
from torch import nn

SHARPNESS = 4  # power of the similarity: the most similar people count most
EVERYBODY = 1e-6  # small weight of each person, so that somebody without ratings gets what is popular


class Neighbours(nn.Module):
    """A person's ratings FP32 [batch, items], 0 where not rated, to the 10 items to show next.

    Each of the known people counts with the cosine similarity of their ratings to the person's. Gives the items'
    positions INT64 [batch, 10] and their scores FP32 [batch, 10]: the weighted mean of the known people's
    ratings, in which an item that somebody did not rate counts as 0.
    """

    def __init__(self, matrix: torch.Tensor) -> None:
        super().__init__()
        self.register_buffer("matrix", matrix)
        self.register_buffer("directions", nn.functional.normalize(matrix, dim=1).T.contiguous())

    def forward(self, ratings: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        similarity = nn.functional.normalize(ratings, dim=1) @ self.directions
        weights = similarity**SHARPNESS + EVERYBODY
        scores = (weights @ self.matrix) / weights.sum(dim=1, keepdim=True)
        scores = torch.where(ratings > 0, torch.full_like(scores, -1.0), scores)
        best, items = torch.topk(scores, 10, dim=1)
        return items, best
