"""The settings of a run: how a setting is declared, read from flags and files, checked, and explained by `--help`."""

from taskmask.config.fields import (
    LARGEST,
    Assignment,
    Problems,
    build,
    convert,
    fields_of,
    from_tables,
    help_lines,
    opt,
    read_file,
    read_flags,
    read_tables,
    said,
    to_dict,
    two_columns,
    type_name,
)

__all__ = [
    "LARGEST",
    "Assignment",
    "Problems",
    "build",
    "convert",
    "fields_of",
    "from_tables",
    "help_lines",
    "opt",
    "read_file",
    "read_flags",
    "read_tables",
    "said",
    "to_dict",
    "two_columns",
    "type_name",
]
