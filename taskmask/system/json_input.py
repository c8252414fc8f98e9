"""JSON that somebody else has written: read strictly, so that nothing in it is lost or guessed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from taskmask.system.files import read_bounded


def from_json(text: str | bytes) -> Any:
    """Returns the value of a JSON text.

    Python's reader takes the last of two values with one key, guesses UTF-16 and UTF-32, and ends otherwise for what is
    nested too deeply.

    Args:
        text: the text; bytes are UTF-8, with or without a byte order mark.

    Raises:
        ValueError: the text is no JSON or no UTF-8, or a key stands twice in one object.
    """
    try:
        plain = text if isinstance(text, str) else text.decode("utf-8-sig")
        return _DECODER.decode(plain)
    except RecursionError:
        raise ValueError("the values are nested too deeply") from None
    except ValueError as error:
        if "set_int_max_str_digits" in str(error):  # Python's advice to programmers
            raise ValueError("a whole number has thousands of digits") from None
        raise


def read_json(path: Path) -> Any:
    """Returns the value of a JSON file, read as `read_bounded` does.

    Raises:
        OSError: there is none, it is too large, or no plain file.
        ValueError: as of `from_json`.
    """
    return from_json(read_bounded(path))


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        keys = [key for key, _ in pairs]
        raise ValueError(f"the key {max(keys, key=keys.count)!r} stands twice in one object")
    return found


_DECODER = json.JSONDecoder(object_pairs_hook=_object)
