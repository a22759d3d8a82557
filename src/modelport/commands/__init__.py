"""The verbs of the command line as plain functions; a Python user calls them as the command does."""
