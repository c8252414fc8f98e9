"""Metrics of what models answer: pure functions of numpy arrays."""
