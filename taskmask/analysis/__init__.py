"""Looking at masking policies: what they mask, whether they keep the laws, which of them trains the better model."""
