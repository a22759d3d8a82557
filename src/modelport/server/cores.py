"""The cores that a server here may use; what counts them stands below the repository, whose checks need it too."""

from modelport._cores import quotas, usable

__all__ = ["quotas", "usable"]
