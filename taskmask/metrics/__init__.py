"""Metrics of what models answer, and how certain they are: pure functions of numpy arrays."""
