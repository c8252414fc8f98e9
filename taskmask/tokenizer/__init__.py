"""Text to token ids and back: SentencePiece models and `tokenizer.json`, and where words begin."""
