"""A trained model at work: predict, evaluate, annotate, and several seeds together."""
