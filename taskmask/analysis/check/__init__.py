"""`taskmask check`: does a masker keep the laws? Vocabularies, scripts and rows of every kind."""
