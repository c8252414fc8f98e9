"""Training: from settings to a trained model. `train` is the composition root, `trainer` the loop."""
