"""Columns of spans, which maskers mask whole: of an outside tagger, of a heuristic, or collocations."""
