"""What a move to another release of Triton changes for a repository: `modelport upgrade-check`."""
