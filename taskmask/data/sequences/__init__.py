"""From stored rows to the sequences that a task reads: blocks, labelled tokens, windows, pairs of texts."""
