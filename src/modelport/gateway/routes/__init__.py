"""Routes between the versions of a model: checked, stored, and changed step by step on evidence."""
