"""What sample recipes have in common: what a recipe is, the data it reads, the scores of its models.

The recipes themselves are scripts in `export/`; nothing here knows one of them. Building and serving them is
done by `modelport.commands.build` and `modelport.commands.demo`.
"""

from __future__ import annotations
