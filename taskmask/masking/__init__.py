"""The verbs corrupt and target: what the model sees at chosen positions, and what it must say there."""
