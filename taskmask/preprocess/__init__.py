"""From text files to the columns of a dataset: formats, fields, labels, and encoding in parallel processes."""
