"""The parts that models are built of: attention, layers, heads, generation."""
