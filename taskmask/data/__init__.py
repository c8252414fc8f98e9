"""The binarized dataset: its format, reading and writing, and rows, batches and random numbers made from it."""
