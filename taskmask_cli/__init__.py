"""The command lines: one module per verb, from its options to a call of `taskmask` and its lines of text."""
