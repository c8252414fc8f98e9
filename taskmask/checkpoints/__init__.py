"""Checkpoints: the file format, the best one of a run, and its settings read back."""
