"""The metrics of `modelport.evaluate.metrics`, for recipes and what scores the source models."""

from modelport.evaluate.metrics import score

__all__ = ["score"]
