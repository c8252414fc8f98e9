"""Hugging Face folders, in and out: weights, settings, tokenizers and model cards, as data and without transformers."""
