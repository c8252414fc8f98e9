"""JSON that every parser reads: undefined numbers become null."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

from taskmask.errors import visible


def json_types(value: Any) -> Any:
    """Returns a value as JSON types: NaN and infinite numbers as None, numpy scalars and arrays as numbers and lists.

    Args:
        value: dicts, lists, tuples, texts and numbers, nested; arrays and scalars of numpy or torch; None.
    """
    if isinstance(value, Mapping):
        return {str(name): json_types(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [json_types(inner) for inner in value]
    if isinstance(value, float):  # numpy's float64 is one, too
        return float(value) if math.isfinite(value) else None
    if hasattr(value, "tolist"):
        return json_types(value.tolist())
    return value


def to_json(value: Any) -> str:
    """Returns one line of valid JSON, for programs to read. All commands with `--json` print this.

    What `visible` escapes is escaped here, too; a parser reads the same text.

    **Source:** RFC 8259, section 6: JSON has no NaN and no infinite numbers.

    Args:
        value: as of `json_types`.
    """
    return visible(json.dumps(json_types(value), ensure_ascii=False, allow_nan=False))
