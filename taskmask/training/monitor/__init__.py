"""What a run shows while it trains: log.jsonl, the progress bar and TensorBoard."""
