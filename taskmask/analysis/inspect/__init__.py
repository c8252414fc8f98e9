"""`taskmask inspect`: what policies mask, row by row and counted over a corpus; and how hard that is for a model."""
