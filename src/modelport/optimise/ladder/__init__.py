"""Try one kind of optimisation after the other within a budget, and say which is best. What was tried is kept."""

from __future__ import annotations
