"""Names for labels that are stored as numbers, as Hugging Face exports them: the list, or the file, that holds them."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from taskmask.errors import ConfigError, DataError
from taskmask.system.files import read_text
from taskmask.system.json_input import from_json

OPTION = "--label-names"
_NUMBER = re.compile(r"(-?\d+)(\.0+)?", re.ASCII)
_FORMS = (
    'a .txt file with one name per line, or a .json file: ["O", "B-PER"], {"tags": ["O", "B-PER"]}, '
    "dataset_info.json of Hugging Face datasets, or config.json of a model"
)


def read_label_names(given: Sequence[str], columns: Sequence[str]) -> dict[str, list[str]]:
    """Reads the names of labels; label i of a column is the i-th name.

    Args:
        given: two or more names, or one file.
        columns: the columns of labels that the dataset will have.

    Returns:
        column -> its names.

    Raises:
        ConfigError: there is no such file, it has no names, or it is not clear which column they are for.
        DataError: names are empty or not unique.
    """
    if not columns:
        raise ConfigError("there are no labels to name", where=OPTION, fix="name the fields with --label or --tags")
    names = list(given) if len(given) > 1 else _read_file(given[0])
    if isinstance(names, list):
        if len(columns) > 1:
            example = json.dumps({column: ["..."] for column in columns[:2]})
            raise ConfigError(
                f"gives one list of names, but there are labels in {', '.join(columns)}",
                where=OPTION,
                expected="a list for one column",
                fix=f"give a .json file that names the column, such as {example}",
            )
        names = {columns[0]: names}
    found = {column: _checked(names[column], column) for column in columns if column in names}
    if not found:
        raise ConfigError(
            f"has no names for {' or '.join(columns)}",
            where=f"{OPTION} {given[0]}",
            expected=f"names for one of its columns; it has {', '.join(names) or 'none'}",
        )
    return found


def plain_name(name: str, is_number: bool) -> str:
    """Returns the name without blanks around it; of a whole number (2.0) also without the decimal point."""
    name = name.strip()
    found = _NUMBER.fullmatch(name) if is_number else None
    return found[1] if found else name


def are_numbers(names: Collection[str]) -> bool:
    """Returns whether all of these names of labels are whole numbers, or no names: signs, NaN, nothing at all.

    A program that keeps a missing number as NaN, as pandas does, writes the others as 0.0, 1.0 ...
    """
    words = [name for name in map(str.strip, names) if any(map(str.isalnum, name)) and name.lower() != "nan"]
    return all(map(_NUMBER.fullmatch, words))


def number_in(label: str, names: Sequence[str], where: str) -> int:
    """The number that a label is.

    Raises:
        DataError: it is not a whole number, or has no name.
    """
    if label.isascii() and label.isdigit() and int(label) < len(names):
        return int(label)
    is_name = label in names
    raise DataError(
        f"the label is {label!r}",
        where=where,
        expected=f"a whole number from 0 to {len(names) - 1}, as {OPTION} gives {len(names)} names",
        fix=f"leave out {OPTION}: the labels have names already" if is_name else "give a name for every number",
    )


def _read_file(name: str) -> list[Any] | Mapping[str, Any]:
    path = Path(name)
    try:
        text = read_text(path, streams=True, encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        what = error.strerror if isinstance(error, OSError) else "not UTF-8"
        raise ConfigError(
            f"cannot be read: {what}", where=f"{OPTION} {name}", expected=f"two or more names, or {_FORMS}"
        ) from error
    if path.suffix != ".json":
        return [line.strip() for line in text.splitlines() if line.strip()]
    try:
        content = from_json(text)
    except ValueError as error:
        raise ConfigError(f"is not valid JSON: {error}", where=f"{OPTION} {name}", expected=_FORMS) from error
    if isinstance(content, list):
        return content
    if isinstance(content, dict):
        if isinstance(by_number := content.get("id2label"), dict):
            return [by_number.get(str(number)) for number in range(len(by_number))]
        return _by_column(content)
    raise ConfigError("holds no names", where=f"{OPTION} {name}", expected=_FORMS)


def _by_column(content: Mapping[str, Any]) -> dict[str, Any]:
    """{column: names} of a JSON object: as it is, of `features`, or of the first configuration with `features`."""
    inner = (value for value in content.values() if isinstance(value, dict))
    features = next((part["features"] for part in (content, *inner) if "features" in part), content)
    found = {column: _names_of(value) for column, value in features.items()} if isinstance(features, dict) else {}
    return {column: names for column, names in found.items() if names is not None}


def _names_of(feature: Any) -> Any:
    """The names of a feature: a list, {"names": [...]} (ClassLabel), or one of these in {"feature": ...}."""
    while isinstance(feature, dict):
        feature = feature.get("names", feature.get("feature"))
    return feature if isinstance(feature, list) else None


def _checked(names: Sequence[Any], column: str) -> list[str]:
    where = f"{OPTION}, names of {column}"
    for number, name in enumerate(names):
        if not isinstance(name, str) or not name.strip():
            raise DataError(f"name {number} is {name!r}", where=where, expected="a string with a character")
    if not names:
        raise DataError("there is no name", where=where, expected="a name for every number")
    if twice := [name for name in names if names.count(name) > 1]:
        raise DataError(f"the name {twice[0]!r} occurs twice", where=where, expected="different names")
    return list(names)
