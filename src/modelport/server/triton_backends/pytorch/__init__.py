"""The backend `pytorch`, served by the Python package torch."""
