"""A repository and what belongs to it, in one file: written while it is in use, and put back as a whole."""
